// Package templatefuncs gives keys to html/template.
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
package templatefuncs
