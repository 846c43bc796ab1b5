package tokens

// The hashes under which the server knows the scripts, for benchmarks against the plain client.
func FenceScriptHash() string   { return fenceScript.Hash() }
func PublishScriptHash() string { return publishScript.Hash() }
