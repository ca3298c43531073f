package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"net/http"
	"time"
)

//go:embed tidings.js tidings-tabs.js
var modules embed.FS

// Client serves the modules of the JavaScript client, each at its path, to pages of any origin: a module is loaded with CORS,
// and these are no secret.
func Client() map[string]http.Handler {
	handlers := map[string]http.Handler{}
	for _, name := range []string{"tidings.js", "tidings-tabs.js"} {
		text, err := modules.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		handlers["/"+name] = serve(text)
	}
	return handlers
}

func serve(module []byte) http.HandlerFunc {
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(module))
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "public, max-age=300") // a new gateway may bring a new one
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(module))
	}
}
