package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"znkr.io/diff"
	"znkr.io/diff/textdiff"

	"github.com/warpket/warpket"
)

// Bounds of one comparison.
const (
	maxCompared  = 8 << 20 // bytes of all files that are compared line by line
	maxLines     = 50_000  // of one file, in both versions
	maxShortest  = 10_000  // lines of all files whose shortest difference is looked for: that takes time by their square
	maxDiff      = 1 << 20 // bytes of one file's differences
	maxAllDiffs  = 4 << 20 // bytes of all differences
	nullFileName = "/dev/null"
)

// VersionDiff is how two versions differ.
type VersionDiff struct {
	FunctionID string     `json:"functionId" doc:"ID of the function"`
	From       int        `json:"from" doc:"Number of the version that is compared; 0 for the draft" example:"1"`
	To         int        `json:"to" doc:"Number of the version that it is compared with; 0 for the draft" example:"2"`
	Same       bool       `json:"same" doc:"Whether all that decides a result is the same: files, entry and runtime, or image and command"`
	Changes    []Setting  `json:"changes" nullable:"false" doc:"What differs besides files"`
	Files      []FileDiff `json:"files" nullable:"false" doc:"Files that differ, by name"`
}

// Setting is something besides files in which two versions differ.
type Setting struct {
	Name string `json:"name" enum:"entry,runtimeId,requirements,image,command" doc:"What it is"`
	From string `json:"from" doc:"What it is in the first; empty for nothing"`
	To   string `json:"to" doc:"What it is in the other; empty for nothing"`
}

// FileDiff is how a file differs.
type FileDiff struct {
	Filename string `json:"filename" doc:"Its path in the other version; where it was, if it was removed" example:"handler.py"`
	From     string `json:"from,omitempty" doc:"Where it was, if it was renamed"`
	Status   string `json:"status" enum:"added,removed,renamed,modified" doc:"What has happened to it; renamed: the same bytes have another name"`
	Binary   bool   `json:"binary" doc:"Whether it is no text in one of the versions; then there is no diff"`
	TooLarge bool   `json:"tooLarge" doc:"Whether it, or all that differs together, is too large to be compared line by line; then there is no diff"`
	OldSize  int64  `json:"oldSize" doc:"Bytes in the first version; 0 if it was added"`
	NewSize  int64  `json:"newSize" doc:"Bytes in the other version; 0 if it was removed"`
	Diff     string `json:"diff" doc:"Its lines that differ, in the unified format; empty without any"`
}

func (s *Server) addDiff() {
	register(s, Read, huma.Operation{
		OperationID: "compare-versions", Method: http.MethodGet, Path: "/v1/functions/{functionId}/versions/{version}/diff/{other}", Tags: []string{"Functions"}, Summary: "Compare two versions",
		Description: "What one has to change in the version to get the other. 0 stands for the draft. At most 8 MiB of files are compared line by line, 50,000 lines and 1 MiB of differences of each.",
		Errors:      []int{http.StatusNotFound},
	}, s.compareVersions, byPath)
}

func (s *Server) compareVersions(ctx context.Context, in *struct {
	FunctionInput
	Version int `path:"version" minimum:"0" maximum:"2147483647" doc:"Number of the version; 0 for the draft" example:"1"`
	Other   int `path:"other" minimum:"0" maximum:"2147483647" doc:"Number of the version to compare with; 0 for the draft" example:"2"`
},
) (*struct{ Body VersionDiff }, error) {
	f, err := s.function(ctx, in.FunctionID)
	if err != nil {
		return nil, err
	}
	before, err := s.snapshotOf(ctx, f, in.Version)
	if err != nil {
		return nil, err
	}
	after, err := s.snapshotOf(ctx, f, in.Other)
	if err != nil {
		return nil, err
	}
	out := VersionDiff{FunctionID: string(f.ID), From: in.Version, To: in.Other, Same: before.Digest == after.Digest, Changes: settings(before, after), Files: []FileDiff{}}
	room := budget{compared: maxCompared, diff: maxAllDiffs, shortest: maxShortest}
	for _, c := range warpket.CompareFiles(before.Files, after.Files) {
		d, err := s.fileDiff(ctx, f.ProjectID, c, &room)
		if err != nil {
			return nil, err
		}
		out.Files = append(out.Files, d)
	}
	return &struct{ Body VersionDiff }{out}, nil
}

// snapshotOf gives the code of a version, or the draft, by its number.
func (s *Server) snapshotOf(ctx context.Context, f warpket.Function, number int) (warpket.Snapshot, error) {
	if number == warpket.DraftNumber {
		d, err := s.Store.Draft(ctx, f.ProjectID, f.ID)
		return d.Snapshot, err
	}
	v, err := s.Store.Version(ctx, f.ProjectID, f.ID, number)
	return v.Snapshot, err
}

// settings are what differs besides files.
func settings(a, b warpket.Snapshot) []Setting {
	out := []Setting{}
	image := func(n warpket.Snapshot) (pinned, command string) {
		if n.Image == nil {
			return "", ""
		}
		return n.Image.Pinned, strings.Join(n.Image.Command, " ")
	}
	imageA, commandA := image(a)
	imageB, commandB := image(b)
	for _, c := range []Setting{
		{"entry", a.Entry, b.Entry},
		{"runtimeId", string(a.RuntimeID), string(b.RuntimeID)},
		{"requirements", a.Requirements, b.Requirements},
		{"image", imageA, imageB},
		{"command", commandA, commandB},
	} {
		if c.From != c.To {
			out = append(out, c)
		}
	}
	return out
}

// budget is what is left of a comparison's bounds.
type budget struct {
	compared, diff int64 // bytes
	shortest       int   // lines
}

// unified gives the lines that differ, the fewest that there can be as long as
// there is room for that.
func (b *budget) unified(before, after []byte, lines int) []byte {
	if lines > b.shortest {
		return textdiff.Unified(before, after, diff.Fast())
	}
	b.shortest -= lines
	return textdiff.Unified(before, after)
}

// fileDiff compares the lines of a file, if it has any and there is room.
func (s *Server) fileDiff(ctx context.Context, project warpket.ID, c warpket.FileChange, room *budget) (FileDiff, error) {
	out := FileDiff{Filename: c.Path, From: c.From, Status: string(c.Kind), OldSize: c.Old.Size, NewSize: c.New.Size}
	if c.Kind == warpket.FileRenamed {
		return out, nil
	}
	if room.compared -= c.Old.Size + c.New.Size; room.compared < 0 {
		out.TooLarge = true
		return out, nil
	}
	names := [2]string{"a/" + c.Path, "b/" + c.Path}
	var texts [2][]byte
	for i, f := range []warpket.File{c.Old, c.New} {
		if f.SHA256 == "" {
			names[i] = nullFileName
			continue
		}
		var err error
		if texts[i], err = s.Blobs.Get(ctx, project, f.SHA256); err != nil {
			return out, err
		}
		out.Binary = out.Binary || !isText(texts[i])
	}
	newline := []byte("\n")
	count := bytes.Count(texts[0], newline) + bytes.Count(texts[1], newline)
	switch {
	case out.Binary:
		return out, nil
	case count > maxLines:
		out.TooLarge = true
		return out, nil
	}
	lines := room.unified(texts[0], texts[1], count)
	if int64(len(lines)) > min(maxDiff, room.diff) {
		out.TooLarge = true
		return out, nil
	}
	room.diff -= int64(len(lines))
	if len(lines) > 0 {
		out.Diff = fmt.Sprintf("--- %s\n+++ %s\n%s", names[0], names[1], lines)
	}
	return out, nil
}

// isText reports whether bytes are text as people read it.
func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }
