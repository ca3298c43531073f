// Package web contains what the gateway serves to browsers: the JavaScript client and the demo
// page.
package web

import (
	"bytes"
	"embed"
	"html"
	"net/http"
	"time"
)

//go:embed index.html demo.css demo.js
var pages embed.FS

// policy allows the page to load its own files and to connect to its own host, also by WebSocket,
// and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Demo returns a handler for the demo page of `tidings gateway --dev`. With an API key the page
// publishes; without one it shows commands that publish.
func Demo(key string) http.Handler {
	mux := http.NewServeMux()
	serve := func(path, name, kind string) {
		text, err := pages.ReadFile(name)
		if err != nil {
			panic(err) // impossible: the file is embedded
		}
		const field = `<meta name="tidings-key" content="`
		text = bytes.Replace(text, []byte(field), []byte(field+html.EscapeString(key)), 1)
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", kind+"; charset=utf-8")
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "no-store") // the page may contain a key
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
		})
	}
	serve("/{$}", "index.html", "text/html")
	serve("/demo.css", "demo.css", "text/css")
	serve("/demo.js", "demo.js", "text/javascript")
	return mux
}
