package api

import (
	"net/http"
	"strings"

	swagger "github.com/swaggo/files/v2"
)

// page shows the API's description. Its parts come from this server, not from
// elsewhere, so it works without the Internet.
const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>warpket API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`

const start = `SwaggerUIBundle({url: "/openapi.json", dom_id: "#api", deepLinking: true, persistAuthorization: true, tryItOutEnabled: true, validatorUrl: null});
`

// addDocs serves the page at /docs.
func (s *Server) addDocs() {
	serve := func(contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'")
			_, _ = w.Write([]byte(body)) // the client may have gone
		}
	}
	s.mux.HandleFunc("GET /docs", serve("text/html; charset=utf-8", page))
	s.mux.HandleFunc("GET /docs/start.js", serve("text/javascript; charset=utf-8", start))
	files := http.FileServerFS(swagger.FS)
	s.mux.HandleFunc("GET /docs/{file}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("file")
		if !strings.HasPrefix(name, "swagger-ui") || strings.HasSuffix(name, ".map") {
			newProblem(http.StatusNotFound, "not_found", "there is no such file").write(w)
			return
		}
		r2 := r.Clone(r.Context())
		r2.URL.Path = "/" + name
		w.Header().Set("Cache-Control", "max-age=86400")
		files.ServeHTTP(w, r2)
	})
}
