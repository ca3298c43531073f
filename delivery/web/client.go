package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"net/http"
	"strings"
	"time"
)

//go:embed tidings.js tidings-tabs.js
var modules embed.FS

// Client returns a handler for each module of the JavaScript client, by path. Pages of any origin
// may load the modules (CORS); they are not secret.
func Client() map[string]http.Handler {
	handlers := map[string]http.Handler{}
	for _, name := range []string{"tidings.js", "tidings-tabs.js"} {
		text, err := modules.ReadFile(name)
		if err != nil {
			panic(err) // impossible: the file is embedded
		}
		handlers["/"+name] = serve(text)
	}
	return handlers
}

// serve returns a handler for the text, with gzip for clients that accept it.
func serve(text []byte) http.HandlerFunc {
	var packed bytes.Buffer
	pack, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	_, _ = pack.Write(text) // never fails: writes to memory
	_ = pack.Close()
	sum := sha256.Sum256(text)
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		body, tag := text, fmt.Sprintf(`"%x"`, sum)
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			body, tag = packed.Bytes(), fmt.Sprintf(`"%x-gzip"`, sum)
			h.Set("Content-Encoding", "gzip")
		}
		h.Set("Vary", "Accept-Encoding")
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cache-Control", "public, max-age=300") // a new gateway may have a new version
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
}
