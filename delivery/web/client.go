package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/http"
	"time"
)

//go:embed tidings.js
var client []byte

// Client serves the JavaScript client, to pages of any origin: a module is loaded with CORS, and this one is no secret.
func Client() http.Handler {
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(client))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "public, max-age=300") // a new gateway may bring a new one
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(client))
	})
}
