package pypi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/warpket/warpket"
)

// Project is what an index has of one package.
type Project struct {
	Name  string
	Page  string // address of the answer
	Files []File
}

// File is one file of a release.
type File struct {
	Name           string
	URL            string
	SHA256         string // hexadecimal; empty if the index does not tell
	RequiresPython string
	Yanked         bool
	Uploaded       time.Time // zero if the index does not tell
}

// Release is one version of a package.
type Release struct {
	Version  string // as the files spell it
	Wheels   []Wheel
	Yanked   bool      // all of its files are
	Uploaded time.Time // when the first of its files was
}

// Releases are the releases that have wheels, newest first.
func (p Project) Releases() []Release {
	byVersion := map[string]*Release{}
	for _, f := range p.Files {
		w, ok := ParseWheel(f)
		if !ok || Normal(w.Package) != p.Name {
			continue
		}
		r := byVersion[Canonical(w.Version)]
		if r == nil {
			r = &Release{Version: w.Version, Yanked: true, Uploaded: f.Uploaded}
			byVersion[Canonical(w.Version)] = r
		}
		r.Wheels = append(r.Wheels, w)
		r.Yanked = r.Yanked && f.Yanked
		if f.Uploaded.Before(r.Uploaded) {
			r.Uploaded = f.Uploaded
		}
	}
	releases := make([]Release, 0, len(byVersion))
	for _, r := range byVersion {
		releases = append(releases, *r)
	}
	slices.SortFunc(releases, func(a, b Release) int { return Compare(b.Version, a.Version) })
	return releases
}

// parse reads an answer of the simple API: JSON (PEP 691 and 700) or HTML
// (PEP 503), which mirrors still send. Addresses in it may be relative to its own.
func parse(name string, base *url.URL, contentType string, body []byte) (Project, error) {
	media, _, _ := mime.ParseMediaType(contentType)
	var files []File
	var err error
	if strings.HasSuffix(media, "json") {
		files, err = parseJSON(body)
	} else {
		files, err = parseHTML(body)
	}
	if err != nil {
		return Project{}, warpket.Because(warpket.Unavailable, err, "the package index gave an answer about %s that cannot be read", name)
	}
	for i := range files {
		if address, err := base.Parse(files[i].URL); err == nil {
			files[i].URL = address.String()
		}
	}
	return Project{Name: name, Page: base.String(), Files: files}, nil
}

func parseJSON(body []byte) ([]File, error) {
	var page struct {
		Files []struct {
			Filename       string            `json:"filename"`
			URL            string            `json:"url"`
			Hashes         map[string]string `json:"hashes"`
			RequiresPython string            `json:"requires-python"`
			Yanked         any               `json:"yanked"` // false, true or the reason
			UploadTime     time.Time         `json:"upload-time"`
		} `json:"files"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	files := make([]File, len(page.Files))
	for i, f := range page.Files {
		files[i] = File{
			Name:           f.Filename,
			URL:            f.URL,
			SHA256:         f.Hashes["sha256"],
			RequiresPython: f.RequiresPython,
			Yanked:         f.Yanked != nil && f.Yanked != false,
			Uploaded:       f.UploadTime.UTC(),
		}
	}
	return files, nil
}

func parseHTML(body []byte) ([]File, error) {
	root, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("reading HTML: %w", err)
	}
	var files []File
	for n := range root.Descendants() {
		if n.DataAtom == atom.A && n.FirstChild != nil {
			files = append(files, fileOf(n))
		}
	}
	return files, nil
}

func fileOf(link *html.Node) File {
	f := File{Name: strings.TrimSpace(link.FirstChild.Data)}
	for _, a := range link.Attr {
		switch a.Key {
		case "href":
			address, fragment, _ := strings.Cut(a.Val, "#")
			f.URL = address
			if values, err := url.ParseQuery(fragment); err == nil {
				f.SHA256 = values.Get("sha256")
			}
		case "data-requires-python":
			f.RequiresPython = a.Val
		case "data-yanked":
			f.Yanked = true
		case "data-upload-time": // in no standard, but sent by mirrors and read by uv
			if t, err := time.Parse(time.RFC3339, a.Val); err == nil {
				f.Uploaded = t.UTC()
			}
		}
	}
	return f
}
