package main

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-playground/validator/v10"
)

// form is what a person entered and what is wrong with it, by the fields' names.
type form struct {
	values map[string]string
	errors map[string]string
}

// The forms. A pointer is nil for a field that was not sent.
type (
	newUser struct {
		Name  string `form:"name" validate:"required,text,max=100"`
		Email string `form:"email" validate:"required,text,email,max=254"`
	}
	userChange struct {
		Name  *string `form:"name" validate:"omitnil,min=1,text,max=100"`
		Email *string `form:"email" validate:"omitnil,min=1,text,email,max=254"`
	}
	newOrder struct {
		Item   string `form:"item" validate:"required,text,max=100"`
		Amount string `form:"amount" validate:"required,amount"`
	}
)

// maxForm is how many bytes the body of a request can have.
const maxForm = 64 << 10

func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get("form") })
	for rule, ok := range map[string]func(string) bool{
		"amount": func(s string) bool { _, ok := parseCents(s); return ok },
		"text":   isText,
	} {
		if err := v.RegisterValidation(rule, func(f validator.FieldLevel) bool { return ok(f.Field().String()) }); err != nil {
			panic(err)
		}
	}
	return v
}

// decode fills the fields of dst, a pointer to one of the forms, with what the request sent, and
// validates them. What is wrong with a field is in the form; the error is about the request.
func (a *app) decode(r *http.Request, dst any) (form, error) {
	if err := parse(r); err != nil {
		return form{}, err
	}
	f := form{values: map[string]string{}, errors: map[string]string{}}
	s := reflect.ValueOf(dst).Elem()
	for i := range s.NumField() {
		name := s.Type().Field(i).Tag.Get("form")
		if !r.PostForm.Has(name) {
			continue
		}
		value := strings.TrimSpace(r.PostForm.Get(name))
		f.values[name] = strings.ToValidUTF8(value, "\uFFFD") // it is shown again
		if field := s.Field(i); field.Kind() == reflect.Pointer {
			field.Set(reflect.ValueOf(&value))
		} else {
			field.SetString(value)
		}
	}
	err := a.validate.Struct(dst)
	if wrong, ok := errors.AsType[validator.ValidationErrors](err); ok {
		for _, e := range wrong {
			f.errors[e.Field()] = message(e)
		}
		return f, nil
	}
	return f, err
}

// parse reads the form that is the request's body. A request without a body sends an empty one.
func parse(r *http.Request) error {
	header := r.Header.Get("Content-Type")
	if header == "" && r.ContentLength == 0 {
		return r.ParseForm()
	}
	kind, _, err := mime.ParseMediaType(header)
	switch {
	case kind == "application/x-www-form-urlencoded":
		err = r.ParseForm()
	case kind == "multipart/form-data":
		err = r.ParseMultipartForm(maxForm)
	case err != nil:
		return fmt.Errorf("%w: %w", errNoForm, err)
	default:
		return fmt.Errorf("%w: it is %q", errNoForm, kind)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("%w: %w", errTooLarge, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBadRequest, err)
	}
	return nil
}

// isText reports whether s is text on one line.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func message(e validator.FieldError) string {
	switch e.Tag() {
	case "required", "min":
		return "This is needed."
	case "text":
		return "Only letters, digits, signs and spaces, please."
	case "email":
		return "Enter an e-mail address, like ada@example.org."
	case "max":
		return fmt.Sprintf("At most %s characters, please.", e.Param())
	case "amount":
		return "Enter an amount from 0.01 to 999999.99, like 12.50."
	default:
		return "This is not valid."
	}
}

func (f form) valid() bool { return len(f.errors) == 0 }

// Field returns what the template "field" shows: what was entered, or the preset if nothing was.
func (f form) Field(name, label, kind, preset string) field {
	value, sent := f.values[name]
	if !sent {
		value = preset
	}
	return field{Name: name, Label: label, Kind: kind, Value: value, Error: f.errors[name]}
}

type field struct {
	Name, Label, Kind, Value, Error string
}

// parseCents reads an amount of money, "12.50" or "12,5" or "12".
func parseCents(s string) (int64, bool) {
	whole, fraction, found := strings.Cut(strings.Replace(s, ",", ".", 1), ".")
	if found && (fraction == "" || len(fraction) > 2) || len(whole) > 6 {
		return 0, false
	}
	cents, err := strconv.ParseUint(whole+(fraction + "00")[:2], 10, 63)
	return int64(cents), err == nil && whole != "" && cents > 0
}

// money writes an amount of cents.
func money(cents int64) string {
	return fmt.Sprintf("€ %d.%02d", cents/100, cents%100)
}

// taken makes of errEmailTaken what is wrong with the field.
func (f form) taken(err error) error {
	if errors.Is(err, errEmailTaken) {
		f.errors["email"] = "Another user has this e-mail address."
		return nil
	}
	return err
}
