// Package templates holds the starters for functions, and knows which releases
// of their SDKs exist and fit which Python.
package templates

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/pypi"
)

// Python is the SDK of templates that need none: its versions are those of the
// interpreter.
const Python = "python"

//go:embed builtin
var builtin embed.FS

// Catalog is the templates there are.
type Catalog struct {
	index     *pypi.Index
	arch      string
	templates []warpket.Template
}

// New makes the catalog of the built-in templates. Releases are looked up in
// index, for nodes of the architecture arch, as Go names it.
func New(index *pypi.Index, arch string) (*Catalog, error) {
	root, err := fs.Sub(builtin, "builtin")
	if err != nil {
		return nil, fmt.Errorf("reading the built-in templates: %w", err)
	}
	return open(index, arch, root)
}

func open(index *pypi.Index, arch string, root fs.FS) (*Catalog, error) {
	c := &Catalog{index: index, arch: arch}
	folders, err := fs.ReadDir(root, ".")
	if err != nil {
		return nil, fmt.Errorf("reading templates: %w", err)
	}
	for _, folder := range folders {
		sub, err := fs.Sub(root, folder.Name())
		if err != nil {
			return nil, fmt.Errorf("reading template %s: %w", folder.Name(), err)
		}
		t, err := read(sub)
		if err != nil {
			return nil, fmt.Errorf("reading template %s: %w", folder.Name(), err)
		}
		c.templates = append(c.templates, t)
	}
	slices.SortFunc(c.templates, func(a, b warpket.Template) int { return strings.Compare(a.Tag, b.Tag) })
	return c, nil
}

// Templates are all templates, by tag.
func (c *Catalog) Templates() []warpket.Template { return slices.Clone(c.templates) }

// Template gives the template of a tag.
func (c *Catalog) Template(tag string) (warpket.Template, error) {
	tags := make([]string, len(c.templates))
	meant := ""
	for i, t := range c.templates {
		if t.Tag == tag {
			return t, nil
		}
		if strings.EqualFold(t.Tag, tag) {
			meant = fmt.Sprintf("; did you mean %q?", t.Tag)
		}
		tags[i] = t.Tag
	}
	return warpket.Template{}, warpket.Errorf(warpket.Invalid, "there is no template with the tag %q%s The tags are: %s",
		tag, stop(meant), strings.Join(tags, ", "))
}

// OfSDK gives the template of an SDK: the first by tag, if several have it.
func (c *Catalog) OfSDK(sdk string) (warpket.Template, error) {
	var sdks []string
	for _, t := range c.templates {
		if t.SDK == sdk {
			return t, nil
		}
		sdks = append(sdks, t.SDK)
	}
	return warpket.Template{}, warpket.Errorf(warpket.Invalid, "no template has the SDK %q. The SDKs are: %s", sdk, strings.Join(slices.Compact(sdks), ", ")).At("sdk")
}

// stop ends a sentence that has no end of its own.
func stop(s string) string {
	if s == "" {
		return "."
	}
	return s
}
