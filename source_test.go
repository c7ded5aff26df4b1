package warpket_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

func TestASourceSaysWhatOfItCannotBe(t *testing.T) {
	t.Parallel()
	git, object := warpket.SourceGit, warpket.SourceObject
	tests := map[string]struct {
		source warpket.Source
		text   string // "" means allowed
	}{
		"a repository":                  {warpket.Source{Kind: git, URL: "https://git.example/bell.git", Ref: "feature/x-1.2", Path: "a/b", Credentials: "GIT"}, ""},
		"an object":                     {warpket.Source{Kind: object, Bucket: "my.bucket-1", Key: "a/b c.zip"}, ""},
		"no URL":                        {warpket.Source{Kind: git}, "url is missing"},
		"a URL with a user":             {warpket.Source{Kind: git, URL: "https://x@git.example/x"}, "keep them in a secret"},
		"a URL with a query":            {warpket.Source{Kind: git, URL: "https://git.example/x?y"}, "is not the URL"},
		"SCP's form":                    {warpket.Source{Kind: git, URL: "git@git.example:x.git"}, "SSH is not spoken"},
		"a ref with a space":            {warpket.Source{Kind: git, URL: "https://git.example/x", Ref: "a b"}, "no name of a branch"},
		"a ref that goes up":            {warpket.Source{Kind: git, URL: "https://git.example/x", Ref: "a/../b"}, "no name of a branch"},
		"an absolute path":              {warpket.Source{Kind: git, URL: "https://git.example/x", Path: "/etc"}, "is absolute"},
		"a bucket that is a path":       {warpket.Source{Kind: object, Bucket: "a/b", Key: "x"}, "no name of a bucket"},
		"no key":                        {warpket.Source{Kind: object, Bucket: "bucket"}, "key is that of an object"},
		"credentials that are a secret": {warpket.Source{Kind: object, Bucket: "bucket", Key: "x", Credentials: "p4ss word"}, "the name of one of the project's secrets"},
	}
	for name, test := range tests {
		err := test.source.Check()
		if (err == nil) != (test.text == "") || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatAnObjectStoreAsksForIsReadAndNotPrinted(t *testing.T) {
	t.Parallel()
	auth, err := warpket.ParseObjectAuth(`{"endpoint":"https://s3.example:9000","accessKey":"key","secretKey":"swordfish","region":"eu"}`)
	if err != nil || auth.Endpoint != "https://s3.example:9000" || auth.Region != "eu" {
		t.Fatalf("%+v %v", auth, err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", auth, auth, auth, auth); strings.Contains(text, "swordfish") {
		t.Error("it prints as", text)
	}
	for _, value := range []string{
		"", "null", "{}", `"swordfish"`, `{"endpoint":"s3.example","accessKey":"a","secretKey":"swordfish"}`, `{"endpoint":"https://s3.example","accessKey":"a"}`,
		`{"endpoint":"https://s3.example/path","accessKey":"a","secretKey":"swordfish"}`, `{"endpoint":"https://s3.example","accessKey":"a","secretKey":"swordfish","other":1}`,
		`{"endpoint":"https://s3.example","accessKey":"a","secretKey":"swordfish"} x`, `{"endpoint":"file:///etc","accessKey":"a","secretKey":"swordfish"}`,
	} {
		if _, err := warpket.ParseObjectAuth(value); warpket.KindOf(err) != warpket.Invalid || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: %v", value, err)
		}
	}
}
