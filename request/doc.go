// Package request is what one request (or job) knows of the cache: the tokens that it has read, how
// new the data is that it may have loaded, and what its own transactions have changed. It gives out
// keys that change with the rows they name, and Fetch, which keeps values under them.
//
// The middleware opens a Scope for every request. A job opens one itself, for each piece of work:
//
//	kit, err := request.New(request.Config{Tokens: store})
//	...
//	ctx, scope := kit.Open(ctx)
//
// # Keys
//
// A key answers two questions, and they have different answers. It is usable if a value that
// somebody stored under it may be served. It is storable if a value made now may be stored under
// it for others. A value that was stored under a token reflects all that was committed when the
// token was given out, so any request that reads the same token may use it. But who stores a value
// must know that his data is as new as the token, and a request only knows that for tokens that
// the process had seen before the request began:
//
//	request                      writer
//	begins
//	loads the row
//	                             changes the row, commits, publishes: a new token
//	asks for the key: the new token
//	stores what it made of the old row under the new token: stale for good
//
// So the request may use what is stored under that token, but must not store. Its key is Younger
// than the request, and as text it is a one-shot key: equal to no other, in any process. A caller
// that stores under a one-shot key harms nobody.
//
// What a transaction of the request has written and not committed must not reach others, and what
// was rolled back must not outlive it. Both make a key not storable too (OwnWrite).
//
// Judgements are made when the key is asked for and again at every question that is put to it,
// because a transaction may have begun or ended since. What was not safe when the key was asked for
// stays unsafe.
package request
