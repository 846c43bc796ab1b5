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
//
// # Values
//
// Fetch, FetchMany and Resolve keep values. A value is stored under its arguments without their
// tokens, with all identifiers that it depends on and the largest stamp among them. It is a hit if that
// is their largest stamp now, and all are usable. So an entry is replaced when its data changes, and
// tokens and values are asked for at the same time.
//
// A value depends on its arguments and on all that was asked for while it was made: keys, and other
// values with what those depend on, made or found. Nobody declares what is inside what. What is asked
// through the request counts for every fill of the request that is open, by whatever goroutine and
// context. A value is stored only if all of that is storable, when it was asked for and when the value is
// stored, and if it is no more than 10,000 identifiers.
//
// Requests that ask for one value of one version at the same time share one fill, if all may store it.
// Who has waited judges the result as he would a stored value, because what else it depends on is known
// only when it is there:
//
//	request A                      writer                request B
//	asks for the user, fills
//	loads his orders
//	                               adds an order
//	                                                     asks for the user: the same version
//	                                                     waits for A
//	asks for the orders' token
//	is done: storable for A
//	                                                     the orders' token is newer: fills itself
//
// A request never waits for a fill that waits for it.
//
// # Responses
//
// NotModified spares the handler all work where the client has the response already.
package request
