package warpket

import (
	"bytes"
	"encoding/json"
	"io"
	"net/url"
	"regexp"
	"strings"
)

// Source says where the files of a snapshot came from. Which fields are set
// depends on its kind.
type Source struct {
	Kind SourceKind `json:"kind"`

	// Of a Git repository elsewhere, and of a push: the commit.
	URL    string `json:"url,omitempty"`    // of the repository, without credentials
	Ref    string `json:"ref,omitempty"`    // branch, tag or commit as it was asked for; empty for the repository's own choice
	Path   string `json:"path,omitempty"`   // folder in the repository; empty for all of it
	Commit string `json:"commit,omitempty"` // hash of the commit that was there then

	// Of an object in a store elsewhere.
	Endpoint string `json:"endpoint,omitempty"` // URL of the store
	Bucket   string `json:"bucket,omitempty"`
	Key      string `json:"key,omitempty"`
	ETag     string `json:"etag,omitempty"` // as that store gave it

	// Of the bytes of a package or an object, in hexadecimal.
	MD5    string `json:"md5,omitempty"`
	SHA256 string `json:"sha256,omitempty"`

	Credentials string `json:"credentials,omitempty"` // name of the secret that was shown there; may be empty
}

// SourceKind is a kind of Source.
type SourceKind string

// Where files come from.
const (
	SourceFiles   SourceKind = "files"   // they were given, or are a template's
	SourcePackage SourceKind = "package" // an uploaded zip
	SourceObject  SourceKind = "object"  // a zip or a file in an object store
	SourceGit     SourceKind = "git"     // a repository elsewhere
	SourcePush    SourceKind = "push"    // a push to the function's own repository
)

var (
	refForm    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+@=-]{0,254}$`)
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
)

// Check reports what of a source that is to be asked cannot be.
func (s Source) Check() error {
	if s.Credentials != "" && !secretForm.MatchString(s.Credentials) {
		return Errorf(Invalid, "credentials is the name of one of the project's secrets").At("%s.credentials", s.Kind)
	}
	switch s.Kind {
	case SourceGit:
		return s.checkGit()
	case SourceObject:
		return s.checkObject()
	case SourceFiles, SourcePackage, SourcePush:
	}
	return nil
}

func (s Source) checkGit() error {
	u, err := url.Parse(s.URL)
	switch {
	case s.URL == "":
		return Errorf(Invalid, "url is missing: give that of a Git repository, such as https://git.example/bell.git").At("git.url")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return Errorf(Invalid, "%.200q is not the URL of a Git repository that can be fetched: give one such as https://git.example/bell.git; SSH is not spoken", s.URL).At("git.url")
	case u.User != nil:
		return Errorf(Invalid, "the URL holds a user or password: leave them out, keep them in a secret (POST /v1/secrets) and name that in credentials").At("git.url")
	case s.Ref != "" && (!refForm.MatchString(s.Ref) || strings.Contains(s.Ref, "..")):
		return Errorf(Invalid, "%.80q is no name of a branch or tag, and no commit: leave ref out for the repository's default branch", s.Ref).At("git.ref")
	}
	if s.Path == "" {
		return nil
	}
	if err := checkPath(s.Path); err != nil {
		return err.At("git.path")
	}
	return nil
}

func (s Source) checkObject() error {
	switch {
	case !bucketForm.MatchString(s.Bucket):
		return Errorf(Invalid, "%.80q is no name of a bucket: 3 to 63 of a-z, 0-9, - and .", s.Bucket).At("object.bucket")
	case s.Key == "" || len(s.Key) > 1024 || strings.HasPrefix(s.Key, "/") || strings.ContainsRune(s.Key, 0):
		return Errorf(Invalid, "key is that of an object, such as functions/bell.zip, with at most 1024 bytes").At("object.key")
	}
	return nil
}

// ObjectAuth is what an object store of a project's own asks for. It prints as
// nothing.
type ObjectAuth struct {
	Endpoint  string // URL
	AccessKey string
	SecretKey string
	Region    string // may be empty
}

// String keeps secrets out of texts.
func (ObjectAuth) String() string { return "(secret)" }

// GoString keeps secrets out of texts.
func (a ObjectAuth) GoString() string { return a.String() }

// MarshalText keeps secrets out of logs.
func (a ObjectAuth) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// ObjectAuthForm is how the value of a secret looks that is for an object store.
const ObjectAuthForm = `the JSON {"endpoint": "https://...", "accessKey": "...", "secretKey": "...", "region": "..."}, of which region may be left out`

// ParseObjectAuth reads the value of a secret that is for an object store. The
// error does not tell the value.
func ParseObjectAuth(value string) (ObjectAuth, error) {
	var a ObjectAuth
	d := json.NewDecoder(bytes.NewReader([]byte(value)))
	d.DisallowUnknownFields()
	err := d.Decode(&struct {
		Endpoint  *string `json:"endpoint"`
		AccessKey *string `json:"accessKey"`
		SecretKey *string `json:"secretKey"`
		Region    *string `json:"region"`
	}{&a.Endpoint, &a.AccessKey, &a.SecretKey, &a.Region})
	_, more := d.Token()
	u, bad := url.Parse(a.Endpoint)
	if err != nil || more != io.EOF || bad != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.Trim(u.Path, "/") != "" || a.AccessKey == "" || a.SecretKey == "" {
		return ObjectAuth{}, Errorf(Invalid, "what an object store asks for is given as %s", ObjectAuthForm)
	}
	return a, nil
}
