// Package web holds what the gateway serves to browsers: the JavaScript client, and the demo page.
package web

import (
	"embed"
	"net/http"
)

//go:embed index.html
var pages embed.FS

// policy lets the page run what is written in it and speak to its own host, by WebSocket too, and nothing else.
const policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Demo serves the demo page of `tidings gateway --dev`.
func Demo() http.Handler {
	files := http.FileServerFS(pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		files.ServeHTTP(w, r)
	})
}
