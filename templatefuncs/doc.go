// Package templatefuncs gives html/template keys, and fragments that come from the cache.
//
// # Keys
//
//	<<cacheKey .User "page">>
//
// is the key that [request.Scope.Key] makes of the same arguments: "hof5npxcjl/alkey:users#1/page".
// It is text, and html/template escapes it for the place where it stands as any other text.
// Any delimiters do; those above are set with Delims("<<", ">>"). What cannot be part of a key (a
// function, a nil model) fails the template, with the position of the call and of the argument.
//
// Templates are parsed once, when the program starts, and executed for one request at a time
// through a [Set]:
//
//	t, err := template.New("").Delims("<<", ">>").Funcs(templatefuncs.FuncMap(nil)).ParseFS(files, "*.html")
//	set, err := templatefuncs.New(t)
//	...
//	err = set.Execute(w, r, "page.html", data)
//
// It costs what html/template alone costs. FuncMap(r) serves templates that are parsed for one
// request.
//
// # Fragments
//
//	<<fragment "card" .User>>
//
// is what <<template "card" .User>> writes, to the byte, but it comes from the cache if it is there: it is
// made again when user 1 has changed, and when anything has that was asked for while it was made. That is
// what other fragments in it are made of, and every key and every value that its functions and methods ask
// for through the request. Nobody declares what is inside what.
//
//	<<fragments "row" .Users>>
//
// is one fragment for each element of whatever range takes, in its order.
//
// What follows the data belongs to the key, for what the template shows beside the data:
//
//	<<fragment "card" .User "short">>
//
// And options can stand among the arguments. They are no part of the key:
//
//	<<fragment "card" .User (cacheTTL "10m")>>        kept for ten minutes at most; or a time.Duration
//	<<fragment "card" .User (cacheIf .Anonymous)>>    made each time if that is false, as if has it
//
// They say nothing of the fragments around: one that is found shows what was in it when it was made.
//
// The data is what a fragment is known by. A model stands for its row, and other data for all that is in
// it, as in every key. So what a fragment shows of other rows than its model's must be known too: pass them
// after the data, if they were loaded before the page is rendered, and nothing needs to be done if they are
// loaded in it with a key or by Fetch.
//
//	<<fragment "card" .User .User.Orders>>
//
// A struct that embeds a model is that model: what else is in it goes after the data too.
//
// The template sees its data and nothing else, as with template. Data that makes no key, because there is a
// function in it or a model inside a map, fails the page. Nil is data that never changes. A fragment also
// belongs to the type of its data, to its template with all that this includes, and to the build of the
// application: after a deploy with another template no old fragment is shown.
//
// # What a page costs
//
// While a page is rendered its fragments are only noted. Then all of them are looked for together: tokens
// and values are one round trip, however many fragments there are. Those that were not found are
// rendered, one after the other, and the fragments in these are the next round trip.
//
// So a page with fragments is written when it is whole, and after an error nothing of it is. Pages without
// any are written as they are rendered. And the data of fragments must not change while the page is
// rendered, as it does if a range function hands out one variable again and again.
//
// Two requests that need the same fragment at the same time make it once. Errors in fragments are those of
// html/template, and a page that failed stores nothing but the fragments in it that were whole. A fragment
// that is inside itself with the same data is an error, [request.ErrCycle]; with other data, as in a tree, it
// is not.
//
// # Where fragments stand
//
// In the text of an element, and by themselves. In an attribute, a script, a style, a title or a comment
// html/template would have to escape them for that place, and a fragment knows none but its own. [New]
// finds each of those, and each that is an argument, a condition, the value of a variable or part of a
// pipeline, and says where it is. A fragment may well have scripts and attributes inside.
//
// The name may be computed, <<fragment .Kind .>>. A fragment around such a call is made again when any
// template of the set is another.
//
// # Functions of the application
//
// Functions that are parsed with the templates are there in fragments too. What they return must follow from
// their arguments, or from what they ask for through the request. For functions that answer for the
// request itself (its language, its CSRF token) there is [PerRequest], which keeps their answers out
// of the fragments of other requests.
package templatefuncs
