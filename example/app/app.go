package main

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-playground/validator/v10"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/templatefuncs"
	"github.com/alkey-go/alkey/tokens"
)

// app answers the requests.
type app struct {
	store     store
	tokens    *tokens.Store
	templates *templatefuncs.Set
	validate  *validator.Validate
}

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/style.css
var staticFiles embed.FS

func newApp(ctx context.Context, s store, t *tokens.Store) (*app, error) {
	parsed, err := template.New("").
		Delims("<<", ">>").
		Funcs(templatefuncs.FuncMap(nil)).
		Funcs(template.FuncMap{"money": money}).
		ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	set, err := templatefuncs.New(parsed)
	if err != nil {
		return nil, err
	}
	a := &app{store: s, tokens: t, templates: set, validate: newValidator()}

	users, err := s.users(ctx)
	if err != nil {
		return nil, err
	}
	ids := []tokens.ID{tokens.Table("users"), tokens.Table("orders")}
	for _, u := range users {
		ids = append(ids, tokens.Row("users", u.ID))
	}
	return a, a.introduce(ctx, ids...)
}

// introduce reads tokens before the requests begin that will ask for them. A request may not store
// under a token that is younger than itself, and one that nobody has asked for is made when
// somebody does. Without this the first visitor of each new page would leave nothing in the cache,
// which only matters to those who watch.
func (a *app) introduce(ctx context.Context, ids ...tokens.ID) error {
	_, err := a.tokens.Read(ctx, ids)
	if errors.Is(err, tokens.ErrDown) {
		return nil // the pages say so themselves
	}
	return err
}

func (a *app) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(
		alkey.Middleware(alkey.Config{
			Tokens:  a.tokens,
			OnFetch: onFetch,
			Debug:   true, // a Server-Timing header with each answer
		}), // first: nothing is loaded before it
		middleware.Recoverer,
		middleware.GetHead,
		middleware.RequestSize(maxForm),
		http.NewCrossOriginProtection().Handler, // no form of another site writes here
		headers,
	)
	r.Get("/static/style.css", http.FileServerFS(staticFiles).ServeHTTP)
	r.With(alkey.CachePage(homeKey)).Get("/", a.handle(a.home))
	r.Get("/users", a.handle(a.listUsers))
	r.Post("/users", a.handle(a.createUser))
	r.Get("/users/{id}", a.handle(a.showUser))
	r.Post("/users/{id}", a.handle(a.updateUser))
	r.Get("/users/{id}/delete", a.handle(a.backToUser))
	r.Post("/users/{id}/delete", a.handle(a.deleteUser))
	r.Get("/users/{id}/orders", a.handle(a.backToUser))
	r.Post("/users/{id}/orders", a.handle(a.createOrder))
	r.NotFound(a.handle(func(http.ResponseWriter, *http.Request) error { return errNotFound }))
	r.MethodNotAllowed(a.handle(methodNotAllowed))
	return r
}

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache") // the browser asks again; the server is the one who remembers
		next.ServeHTTP(w, r)
	})
}

// homeKey is what the front page is kept under, as a whole. What it asks for while it is made counts by
// itself; the arguments spare the cache a look, and tell readers.
func homeKey(*http.Request) []any {
	return []any{tokens.Table("users"), tokens.Table("orders")}
}

func (a *app) home(w http.ResponseWriter, r *http.Request) error {
	users, err := a.part(r, "count", func(ctx context.Context) (any, error) {
		return a.store.countUsers(ctx)
	}, tokens.Table("users"))
	if err != nil {
		return err
	}
	totals, err := a.part(r, "totals", func(ctx context.Context) (any, error) {
		return a.store.totals(ctx)
	}, tokens.Table("orders"))
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, "home.html", map[string]any{
		"Title": "Keys that change with the rows",
		"Parts": []part[template.HTML]{users, totals},
	})
}

func (a *app) listUsers(w http.ResponseWriter, r *http.Request) error {
	return a.usersPage(w, r, http.StatusOK, form{})
}

// usersPage keeps the list, which any change of a user makes anew. Its rows are fragments: of these
// only a change of its own user makes one anew, and all are looked up in one round trip.
func (a *app) usersPage(w http.ResponseWriter, r *http.Request, status int, entered form) error {
	list, err := fetch(r, a.store.users, tokens.Table("users"), "list")
	if err != nil {
		return err
	}
	return a.render(w, r, status, "users.html", map[string]any{
		"Title": "Users",
		"List":  list,
		"Form":  entered,
	})
}

func (a *app) createUser(w http.ResponseWriter, r *http.Request) error {
	var u newUser
	entered, err := a.decode(r, &u)
	if err != nil {
		return err
	}
	var id int64
	if entered.valid() {
		id, err = a.store.createUser(r.Context(), u.Name, u.Email)
		err = entered.taken(err)
	}
	if err != nil {
		return err
	}
	if !entered.valid() {
		return a.usersPage(w, r, http.StatusUnprocessableEntity, entered)
	}
	if err := a.introduce(r.Context(), tokens.Row("users", id)); err != nil {
		return err
	}
	return seeUser(w, r, id)
}

func (a *app) showUser(w http.ResponseWriter, r *http.Request) error {
	id, err := userID(r)
	if err != nil {
		return err
	}
	if alkey.NotModified(w, r, tokens.Row("users", id), tokens.Table("orders"), "page") {
		return nil // the browser has this page: nothing is loaded
	}
	return a.userPage(w, r, http.StatusOK, id, form{}, form{})
}

// userPage keeps the card, which a change of this user makes anew, and the orders and their total,
// which any change of an order does.
func (a *app) userPage(w http.ResponseWriter, r *http.Request, status int, id int64, edit, order form) error {
	user, err := a.store.user(r.Context(), id)
	if err != nil {
		return err
	}
	card, err := a.part(r, "card", func(context.Context) (any, error) { return user, nil }, user)
	if err != nil {
		return err
	}
	orders, err := a.part(r, "orders", func(ctx context.Context) (any, error) {
		return a.store.orders(ctx, id)
	}, tokens.Table("orders"), "user", id)
	if err != nil {
		return err
	}
	totals, err := a.part(r, "totals", func(ctx context.Context) (any, error) {
		return a.store.totalsOf(ctx, id)
	}, tokens.Table("orders"), "user", id)
	if err != nil {
		return err
	}
	return a.render(w, r, status, "user.html", map[string]any{
		"Title":  user.Name,
		"User":   user,
		"Card":   card,
		"Orders": orders,
		"Totals": totals,
		"Edit":   edit,
		"Order":  order,
	})
}

func (a *app) updateUser(w http.ResponseWriter, r *http.Request) error {
	id, err := userID(r)
	if err != nil {
		return err
	}
	var u userChange
	entered, err := a.decode(r, &u)
	if err != nil {
		return err
	}
	if entered.valid() {
		err = entered.taken(a.store.updateUser(r.Context(), id, u.Name, u.Email))
	}
	if err != nil {
		return err
	}
	if !entered.valid() {
		return a.userPage(w, r, http.StatusUnprocessableEntity, id, entered, form{})
	}
	return seeUser(w, r, id)
}

func (a *app) deleteUser(w http.ResponseWriter, r *http.Request) error {
	id, err := userID(r)
	if err != nil {
		return err
	}
	if err := a.store.deleteUser(r.Context(), id); err != nil {
		return err
	}
	http.Redirect(w, r, "/users", http.StatusSeeOther)
	return nil
}

func (a *app) createOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := userID(r)
	if err != nil {
		return err
	}
	var o newOrder
	entered, err := a.decode(r, &o)
	if err != nil {
		return err
	}
	if !entered.valid() {
		return a.userPage(w, r, http.StatusUnprocessableEntity, id, form{}, entered)
	}
	cents, _ := parseCents(o.Amount) // it is valid
	if err := a.store.createOrder(r.Context(), id, o.Item, cents); err != nil {
		return err
	}
	return seeUser(w, r, id)
}

// backToUser answers a reader whose address bar shows where a form was sent to.
func (a *app) backToUser(w http.ResponseWriter, r *http.Request) error {
	id, err := userID(r)
	if err != nil {
		return err
	}
	return seeUser(w, r, id)
}

// methodNotAllowed says what is allowed instead. Where nothing is, there is nothing.
func methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	routes := chi.RouteContext(r.Context()).Routes
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if routes.Match(chi.NewRouteContext(), method, cmp.Or(r.URL.RawPath, r.URL.Path)) {
			allowed = append(allowed, method)
			if method == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	if allowed == nil {
		return errNotFound
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return errMethod
}

// userID reads the path's id. What is no id names no user.
func userID(r *http.Request) (int64, error) {
	text := chi.URLParam(r, "id")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(id, 10) != text {
		return 0, errNotFound
	}
	return id, nil
}

// seeUser sends the browser to the user's page, so that a reload does not send the form again.
func seeUser(w http.ResponseWriter, r *http.Request, id int64) error {
	http.Redirect(w, r, "/users/"+strconv.FormatInt(id, 10), http.StatusSeeOther)
	return nil
}

var (
	errMethod     = errors.New("the address does not take this method")
	errBadRequest = errors.New("the request cannot be read")
	errTooLarge   = errors.New("the request is too large")
	errNoForm     = errors.New("the request's body is no form")
)

// answers says how errors are answered that are the client's.
var answers = []struct {
	err    error
	status int
	text   string
}{
	{errNotFound, http.StatusNotFound, "There is nothing at this address (any more)."},
	{errMethod, http.StatusMethodNotAllowed, "This address does not answer that kind of request."},
	{errBadRequest, http.StatusBadRequest, "The form that was sent cannot be read."},
	{errTooLarge, http.StatusRequestEntityTooLarge, fmt.Sprintf("The form that was sent is too large. At most %d bytes, please.", maxForm)},
	{errNoForm, http.StatusUnsupportedMediaType, "This address takes what HTML forms send, and nothing else."},
}

// handle answers what a handler returns as an error.
func (a *app) handle(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil || r.Context().Err() != nil {
			return
		}
		status, text := http.StatusInternalServerError, "Something went wrong here. The log says what."
		for _, answer := range answers {
			if errors.Is(err, answer.err) {
				status, text = answer.status, answer.text
				break
			}
		}
		if status == http.StatusInternalServerError {
			slog.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		if err := a.render(w, r, status, "error.html", map[string]any{"Title": http.StatusText(status), "Text": text}); err != nil {
			slog.Error("error page failed", "error", err)
			http.Error(w, text, status)
		}
	}
}

// render sends a page. It is complete before the first byte is sent, so that an error has its status.
// What became of its fragments is known when they are there, so it stands at the bottom.
func (a *app) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) error {
	var fragments []request.FetchEvent
	ctx := noting(r.Context(), func(e request.FetchEvent) { fragments = append(fragments, e) })
	var page bytes.Buffer
	if err := a.templates.ExecuteContext(&page, ctx, name, data); err != nil {
		return err
	}
	if err := a.templates.Execute(&page, r, "bottom", fragments); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // fails if the client has gone, and nobody is left to tell
	return nil
}
