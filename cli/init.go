package cli

import (
	"cmp"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/warpket/warpket"
)

func (a *app) initCommand() *cobra.Command {
	var name, version string
	c := &cobra.Command{
		Use:               "init TEMPLATE [DIR]",
		Short:             "Start a function from a template, in a folder",
		Long:              "Writes the files of a template into a folder, which is named like the function unless given, with " + manifestName + ", which says what they are. No file is overwritten.",
		Example:           "  warpket init Qiskit bell\n  warpket init Qiskit --name bell --sdk-version 0.45.3",
		Args:              takes("TEMPLATE", "[DIR]"),
		ValidArgsFunction: a.completeNames(templateTags),
	}
	c.Flags().StringVar(&name, "name", "", "name of the function; that of DIR unless set")
	c.Flags().StringVar(&version, "sdk-version", "", "release of the template's SDK; its default unless set")
	c.RunE = func(c *cobra.Command, args []string) error {
		m, dir := manifest{Name: name, Template: args[0]}, ""
		if len(args) == 2 {
			dir = args[1]
			abs, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			m.Name = cmp.Or(name, strings.ToLower(filepath.Base(abs)))
		}
		m.Name = cmp.Or(m.Name, strings.ToLower(m.Template))
		dir = cmp.Or(dir, m.Name)
		if err := warpket.CheckName("function", m.Name); err != nil {
			return &hinted{err, "warpket init " + strings.Join(args, " ") + " --name NAME"}
		}
		return a.startFunction(c, m, dir, version)
	}
	return c
}

// startFunction writes a function's first files.
func (a *app) startFunction(c *cobra.Command, m manifest, dir, version string) error {
	server, err := a.connect()
	if err != nil {
		return err
	}
	r, err := server.GetTemplateWithResponse(c.Context(), m.Template)
	if err != nil {
		return err
	}
	t := r.JSON200
	m.Template, m.SDKVersion = t.Tag, cmp.Or(version, t.DefaultSDKVersion)
	about, err := yaml.Marshal(m)
	if err != nil {
		return err
	}
	files := []localFile{{manifestName, about}}
	for _, f := range t.Files {
		files = append(files, localFile{f.Filename, []byte(f.Content)})
	}
	if err := write(dir, files); err != nil {
		return err
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	if a.json {
		return json.NewEncoder(a.out).Encode(map[string]any{"dir": dir, "name": m.Name, "template": m.Template, "sdkVersion": m.SDKVersion, "files": names})
	}
	a.note.printf("%s %s: %s %s, %s", a.note.paint(good, "✓"), dir, t.SDK, m.SDKVersion, strings.Join(names, ", "))
	a.next("cd " + dir + " && warpket deploy")
	return nil
}
