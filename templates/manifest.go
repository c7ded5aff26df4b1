package templates

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/warpket/warpket"
)

// manifest is manifest.yaml, which describes a template beside its files/.
type manifest struct {
	Tag             string            `yaml:"tag"`
	SDK             string            `yaml:"sdk"`
	Description     string            `yaml:"description"`
	Entry           string            `yaml:"entry"`
	Targets         []warpket.Target  `yaml:"targets"`
	OldestVersion   string            `yaml:"oldestVersion"`
	DefaultVersion  string            `yaml:"defaultVersion"`
	Wheels          []string          `yaml:"wheels"`
	Requirements    map[string]string `yaml:"requirements"`
	LockWindowWeeks int               `yaml:"lockWindowWeeks"`
	Smoke           string            `yaml:"smoke"`
	Minors          []string          `yaml:"minors"`
	Compiler        warpket.Compiler  `yaml:"compiler"`
	CUDA            string            `yaml:"cuda"`
	Files           []file            `yaml:"files"`
	Examples        []file            `yaml:"examples"`
}

type file struct {
	Filename string `yaml:"filename"`
	Language string `yaml:"language"`
}

var (
	targets   = []warpket.Target{warpket.Simulator, warpket.GPU, warpket.Compile, warpket.Sim, warpket.CPU}
	languages = []string{"python", "cpp", "text"}
)

// read reads the template in a folder.
func read(folder fs.FS) (warpket.Template, error) {
	content, err := fs.ReadFile(folder, "manifest.yaml")
	if err != nil {
		return warpket.Template{}, fmt.Errorf("reading the manifest: %w", err)
	}
	var m manifest
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&m); err != nil {
		return warpket.Template{}, warpket.Because(warpket.Invalid, err, "manifest.yaml cannot be read")
	}
	if err := m.check(); err != nil {
		return warpket.Template{}, err
	}
	t := warpket.Template{
		Tag:             m.Tag,
		SDK:             m.SDK,
		DefaultVersion:  m.DefaultVersion,
		OldestVersion:   m.OldestVersion,
		Description:     m.Description,
		Entry:           m.Entry,
		Targets:         m.Targets,
		Wheels:          m.Wheels,
		Requirements:    m.Requirements,
		LockWindowWeeks: m.LockWindowWeeks,
		Smoke:           m.Smoke,
		Minors:          m.Minors,
		Compiler:        m.Compiler,
		CUDA:            m.CUDA,
	}
	if t.Files, err = readFiles(folder, "files", m.Files); err != nil {
		return warpket.Template{}, err
	}
	t.Examples, err = readFiles(folder, "examples", m.Examples)
	return t, err
}

func readFiles(folder fs.FS, in string, named []file) ([]warpket.TemplateFile, error) {
	var files []warpket.TemplateFile
	for _, f := range named {
		content, err := fs.ReadFile(folder, path.Join(in, f.Filename))
		if err != nil {
			return nil, warpket.Because(warpket.Invalid, err, "manifest.yaml names the file %q, which is not in %s/", f.Filename, in)
		}
		files = append(files, warpket.TemplateFile{Filename: f.Filename, Language: f.Language, Content: string(content)})
	}
	return files, nil
}

func (m manifest) check() error {
	if m.Tag == "" || m.SDK == "" || m.Entry == "" || len(m.Targets) == 0 || len(m.Files) == 0 {
		return warpket.Errorf(warpket.Invalid, "manifest.yaml needs tag, sdk, entry, targets and files")
	}
	if m.SDK != Python && len(m.Wheels) == 0 {
		return warpket.Errorf(warpket.Invalid, "manifest.yaml needs wheels: the packages whose wheels decide which Python fits %s", m.SDK)
	}
	for _, t := range m.Targets {
		if !slices.Contains(targets, t) {
			return warpket.Errorf(warpket.Invalid, "manifest.yaml names the target %q; the targets are %v", t, targets)
		}
	}
	if m.Compiler != "" && m.Compiler != warpket.NVCC {
		return warpket.Errorf(warpket.Invalid, "manifest.yaml names the compiler %q; there is only %s", m.Compiler, warpket.NVCC)
	}
	for _, f := range slices.Concat(m.Files, m.Examples) {
		if !slices.Contains(languages, f.Language) {
			return warpket.Errorf(warpket.Invalid, "manifest.yaml names the language %q; the languages are %v", f.Language, languages)
		}
	}
	return nil
}
