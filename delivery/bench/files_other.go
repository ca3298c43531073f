//go:build !unix

package bench

// checkFileLimit always returns nil, because this system has no such limit.
func checkFileLimit(int) error { return nil }
