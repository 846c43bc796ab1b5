// Package alkey makes cache keys that change when your data does.
//
// Put one middleware on the router and open the database through alkey. From then on every key
// changes by itself whenever the rows behind it change. There is no invalidation code to write, and
// no stale hit after a commit.
//
//	store, err := tokens.FromEnv(ctx)                // Redis by REDIS_URL, else in process
//	db, err := alkey.Open("sqlite", "app.db", store) // *sqlx.DB; every write is seen
//
//	r := chi.NewRouter()
//	r.Use(alkey.Middleware(alkey.Config{Tokens: store}))
//	r.Get("/users/{id}", func(w http.ResponseWriter, r *http.Request) {
//		key := alkey.CacheKey(r, user, "page") // "hof5npxcjl/alkey:users#1/page"
//	})
//
// A model is a struct with a TableName method and a primary key. Nothing of alkey need be imported
// to be one.
//
// Fetch keeps computed values under such keys:
//
//	total, err := alkey.Fetch(r, func(ctx context.Context) (int, error) {
//		return sumOfOrders(ctx, user)
//	}, user, tokens.Table("orders"), "total")
//
// This package is a facade. Package tokens has identifiers and the token store and states the
// protocol; txscope captures writes; request has keys and Fetch for any context; cache has the
// stores for values; templatefuncs brings cacheKey into templates.
package alkey
