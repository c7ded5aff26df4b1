package cli

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

// draft is what stands for the draft where a version is named.
const draft = "draft"

// versionNumber reads the number of a version; 0 for the draft.
func versionNumber(c *cobra.Command, text string) (int64, error) {
	if text == draft {
		return warpket.DraftNumber, nil
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(text, "v"), 10, 32)
	if err != nil || n < 1 {
		return 0, &usageError{c.CommandPath(), fmt.Sprintf("%q is no version: give its number, or %q", text, draft)}
	}
	return n, nil
}

// versionText is what a version is called in a table.
func versionText(number int64) string {
	if number == warpket.DraftNumber {
		return draft
	}
	return strconv.FormatInt(number, 10)
}

// newestVersion gives the number of a function's newest version.
func newestVersion(ctx context.Context, server *client.ClientWithResponses, f client.Function) (int64, error) {
	r, err := server.GetFunctionWithResponse(ctx, f.FunctionID)
	if err != nil {
		return 0, err
	}
	if r.JSON200.Version == 0 {
		return 0, warpket.Errorf(warpket.NotFound, "%s has no version yet, only a draft", f.FunctionName)
	}
	return r.JSON200.Version, nil
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "diff FUNCTION [FROM] [TO]",
		Short:             "Compare two versions of a function",
		Long:              "Shows what has changed between two versions, or the draft. Without TO that is the newest version, and without FROM the one before it.",
		Example:           "  warpket diff bell\n  warpket diff bell 2 5\n  warpket diff bell 5 draft",
		Args:              takes("FUNCTION", "[FROM]", "[TO]"),
		ValidArgsFunction: a.completeNames(functionNames),
		RunE: func(c *cobra.Command, args []string) error {
			server, err := a.connect()
			if err != nil {
				return err
			}
			numbers := make([]int64, len(args)-1)
			for i, text := range args[1:] {
				if numbers[i], err = versionNumber(c, text); err != nil {
					return err
				}
			}
			f, err := findFunction(c.Context(), server, args[0])
			if err != nil {
				return err
			}
			return a.diff(c, server, f, numbers)
		},
	}
}

func (a *app) diff(c *cobra.Command, server *client.ClientWithResponses, f client.Function, numbers []int64) error {
	if len(numbers) < 2 {
		newest, err := newestVersion(c.Context(), server, f)
		if err != nil {
			return err
		}
		if len(numbers) == 0 {
			if newest == 1 {
				return &usageError{c.CommandPath(), f.FunctionName + " has one version: name two, or the draft"}
			}
			numbers = append(numbers, newest-1)
		}
		numbers = append(numbers, newest)
	}
	r, err := server.CompareVersionsWithResponse(c.Context(), f.FunctionID, numbers[0], numbers[1])
	if err != nil {
		return err
	}
	if a.json {
		return a.print(r.Body)
	}
	d := r.JSON200
	for _, s := range d.Changes {
		a.out.printf("%s: %s -> %s", s.Name, dash(safe(s.From)), dash(safe(s.To)))
	}
	for _, file := range d.Files {
		a.printDiff(file)
	}
	if len(d.Changes)+len(d.Files) == 0 {
		a.note.printf("%s of %s and %s are the same", warpket.VersionName(int(numbers[0])), f.FunctionName, warpket.VersionName(int(numbers[1])))
	}
	return nil
}

// printDiff shows how a file differs, as other tools read it.
func (a *app) printDiff(f client.FileDiff) {
	name := safe(f.Filename)
	switch {
	case f.From != "":
		a.out.printf("%s", a.out.paint(busy, fmt.Sprintf("renamed %s -> %s", safe(f.From), name)))
	case f.Binary:
		a.out.printf("%s", a.out.paint(busy, fmt.Sprintf("%s %s, which is no text (%s -> %s)", f.Status, name, size(f.OldSize), size(f.NewSize))))
	case f.Diff == "":
		a.out.printf("%s", a.out.paint(busy, fmt.Sprintf("%s %s (%s -> %s)", f.Status, name, size(f.OldSize), size(f.NewSize))))
	}
	for line := range strings.Lines(f.Diff) {
		text := strings.TrimSuffix(line, "\n")
		parts := strings.Split(text, "\t") // which safe takes out
		for i := range parts {
			parts[i] = safe(parts[i])
		}
		text = strings.Join(parts, "\t")
		switch line[0] {
		case '+':
			text = a.out.paint(good, text)
		case '-':
			text = a.out.paint(bad, text)
		case '@':
			text = a.out.paint(busy, text)
		}
		a.out.printf("%s", text)
	}
}

func (a *app) downloadCommand() *cobra.Command {
	var version string
	c := &cobra.Command{
		Use:               "download FUNCTION [DIR]",
		Short:             "Write the files of a function into a folder",
		Long:              "Writes the files of a version into a folder, which is named like the function unless given, with " + manifestName + ", so that it can be changed and deployed. No file is overwritten.",
		Example:           "  warpket download bell\n  warpket download bell old --version 2",
		Args:              takes("FUNCTION", "[DIR]"),
		ValidArgsFunction: a.completeNames(functionNames),
	}
	c.Flags().StringVar(&version, "version", "", "number of the version, or draft; the newest unless set")
	c.RunE = func(c *cobra.Command, args []string) error {
		server, err := a.connect()
		if err != nil {
			return err
		}
		number := int64(-1)
		if version != "" {
			if number, err = versionNumber(c, version); err != nil {
				return err
			}
		}
		f, err := findFunction(c.Context(), server, args[0])
		if err != nil {
			return err
		}
		if number < 0 {
			if number, err = newestVersion(c.Context(), server, f); err != nil {
				return err
			}
		}
		dir := f.FunctionName
		if len(args) == 2 {
			dir = args[1]
		}
		return a.download(c.Context(), server, f, number, dir)
	}
	return c
}

func (a *app) download(ctx context.Context, server *client.ClientWithResponses, f client.Function, number int64, dir string) error {
	files, err := archived(ctx, server, f, number)
	if err != nil {
		return err
	}
	about, err := yaml.Marshal(manifest{Name: f.FunctionName, Template: f.TemplateLanguageTag, SDKVersion: f.SDKVersion, Description: f.Description, Entry: f.Entry})
	if err != nil {
		return err
	}
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = file.name
	}
	if err := write(dir, append([]localFile{{manifestName, about}}, files...)); err != nil {
		return err
	}
	if a.json {
		return json.NewEncoder(a.out).Encode(map[string]any{"dir": dir, "name": f.FunctionName, "version": number, "files": names})
	}
	a.note.printf("%s %s: %s of %s, %s", a.note.paint(good, "✓"), dir, warpket.VersionName(int(number)), f.FunctionName, safe(strings.Join(names, ", ")))
	return nil
}

// archived reads the files of a version, or the draft.
func archived(ctx context.Context, server *client.ClientWithResponses, f client.Function, number int64) ([]localFile, error) {
	var packed []byte
	if number == warpket.DraftNumber {
		r, err := server.GetDraftArchiveWithResponse(ctx, f.FunctionID)
		if err != nil {
			return nil, err
		}
		packed = r.Body
	} else {
		r, err := server.GetVersionArchiveWithResponse(ctx, f.FunctionID, number)
		if err != nil {
			return nil, err
		}
		packed = r.Body
	}
	z, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		return nil, warpket.Because(warpket.Unavailable, err, "the archive came incomplete: try again")
	}
	var files []localFile
	room := int64(warpket.MaxVersionSize)
	for _, part := range z.File {
		if part.Name == manifestName { // this client writes its own
			continue
		}
		r, err := part.Open()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(io.LimitReader(r, room+1))
		if err := cmp.Or(err, r.Close()); err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", part.Name, err)
		}
		if room -= int64(len(content)); room < 0 {
			return nil, warpket.Errorf(warpket.TooLarge, "the archive has more than %s", size(warpket.MaxVersionSize))
		}
		files = append(files, localFile{part.Name, content})
	}
	return files, nil
}
