package sources

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/warpket/warpket"
)

// fetchTime bounds the fetching of one object.
const fetchTime = 2 * time.Minute

// Bucket is a bucket that every project may read.
type Bucket struct {
	Name               string
	warpket.ObjectAuth // without keys if anybody may read it
}

// ParseBucket reads https://[ACCESSKEY:SECRETKEY@]HOST[:PORT]/BUCKET[?region=REGION].
// The error does not tell the keys.
func ParseBucket(text string) (Bucket, error) {
	bad := warpket.Errorf(warpket.Invalid, "a bucket that functions may come from is written https://[ACCESSKEY:SECRETKEY@]HOST[:PORT]/BUCKET[?region=REGION]")
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
		return Bucket{}, bad
	}
	b := Bucket{Name: strings.Trim(u.Path, "/")}
	if b.Name == "" || strings.Contains(b.Name, "/") {
		return Bucket{}, bad
	}
	b.Endpoint, b.Region = u.Scheme+"://"+u.Host, u.Query().Get("region")
	if u.User != nil {
		b.AccessKey = u.User.Username()
		b.SecretKey, _ = u.User.Password()
	}
	return b, nil
}

// Objects fetches from object stores.
type Objects struct {
	// Buckets are the operator's.
	Buckets []Bucket
	// Own is warpket's bucket, which nobody reads this way.
	Own Bucket
	// Transport makes requests to stores that projects name, and refuses hosts
	// that are not to be asked.
	Transport http.RoundTripper
}

// Fetch gives the files of an object, which is a zip or a single file. Without
// auth its bucket has to be one of the operator's.
func (o Objects) Fetch(ctx context.Context, from warpket.Source, auth *warpket.ObjectAuth) ([]File, warpket.Source, error) {
	if err := from.Check(); err != nil {
		return nil, from, err
	}
	access, transport, err := o.access(from, auth)
	if err != nil {
		return nil, from, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	content, etag, err := get(ctx, from, access, transport)
	if err != nil {
		return nil, from, explain(err, from, access)
	}
	sums := SumsOf(content)
	from.Endpoint, from.ETag, from.MD5, from.SHA256 = access.Endpoint, etag, sums.MD5, sums.SHA256
	files := []File{{Path: path.Base(from.Key), Content: content}}
	if bytes.HasPrefix(content, []byte("PK\x03\x04")) || bytes.HasPrefix(content, []byte("PK\x05\x06")) {
		files, err = Unzip(content)
	} else if len(content) > warpket.MaxFileSize {
		err = warpket.Errorf(warpket.TooLarge, "it has %d bytes and is no zip; a file has at most %d (1 MiB)", len(content), warpket.MaxFileSize)
	}
	if e, ok := errors.AsType[*warpket.Error](err); ok {
		err = &warpket.Error{Kind: e.Kind, Message: "the object " + from.Bucket + "/" + from.Key + ": " + e.Message, Field: "object.key", Cause: e.Cause}
	}
	return files, from, err
}

// access finds out how a bucket is read.
func (o Objects) access(from warpket.Source, auth *warpket.ObjectAuth) (warpket.ObjectAuth, http.RoundTripper, error) {
	if auth != nil {
		if from.Bucket == o.Own.Name && sameHost(auth.Endpoint, o.Own.Endpoint) {
			return *auth, nil, warpket.Errorf(warpket.Denied, "the bucket %q is warpket's own: functions do not come from there", from.Bucket).At("object.bucket")
		}
		return *auth, o.Transport, nil
	}
	var names []string
	for _, b := range o.Buckets {
		if b.Name == from.Bucket {
			return b.ObjectAuth, nil, nil
		}
		names = append(names, b.Name)
	}
	what := "the operator has listed none"
	if len(names) > 0 {
		what = "the operator's are: " + strings.Join(names, ", ")
	}
	return warpket.ObjectAuth{}, nil, warpket.Errorf(warpket.Denied, "the bucket %q is not one that every project may read (%s): name in credentials a secret of the project, whose value is %s", from.Bucket, what, warpket.ObjectAuthForm).At("object.bucket")
}

// Check refuses buckets that functions must not come from, and names that two
// of them have.
func (o Objects) Check() error {
	names := map[string]bool{}
	for _, b := range o.Buckets {
		if names[b.Name] {
			return warpket.Errorf(warpket.Invalid, "there are two buckets %q, and functions name the one that they mean by its name only", b.Name)
		}
		names[b.Name] = true
		if b.Name == o.Own.Name && sameHost(b.Endpoint, o.Own.Endpoint) {
			return warpket.Errorf(warpket.Invalid, "the bucket %q is warpket's own, with the code of all projects: functions cannot come from there", b.Name)
		}
	}
	return nil
}

// sameHost compares the hosts of two URLs, with their ports.
func sameHost(a, b string) bool {
	host := func(text string) string {
		u, err := url.Parse(text)
		if err != nil {
			return text
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") + ":" + port
	}
	return host(a) == host(b)
}

func get(ctx context.Context, from warpket.Source, access warpket.ObjectAuth, transport http.RoundTripper) ([]byte, string, error) {
	u, err := url.Parse(access.Endpoint)
	if err != nil {
		return nil, "", err
	}
	creds := credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
	if access.AccessKey != "" {
		creds = credentials.NewStaticV4(access.AccessKey, access.SecretKey, "")
	}
	client, err := minio.NewCore(u.Host, &minio.Options{Creds: creds, Secure: u.Scheme == "https", Region: access.Region, Transport: transport, MaxRetries: 2})
	if err != nil {
		return nil, "", err
	}
	r, info, _, err := client.GetObject(ctx, from.Bucket, from.Key, minio.GetObjectOptions{})
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = r.Close() }()
	content, err := io.ReadAll(io.LimitReader(r, MaxZip+1))
	if err != nil {
		return nil, "", err
	}
	if len(content) > MaxZip {
		return nil, "", warpket.Errorf(warpket.TooLarge, "the object %s/%s has more than %d MiB", from.Bucket, from.Key, MaxZip>>20).At("object.key")
	}
	return content, info.ETag, nil
}

// explain gives an error of a store its kind: it is the request that has to
// change, or that can be sent again.
func explain(err error, from warpket.Source, access warpket.ObjectAuth) error {
	if known, ok := errors.AsType[*warpket.Error](err); ok {
		field := known.Field
		if field == "" {
			field = "object"
		}
		return &warpket.Error{Kind: known.Kind, Message: "reading the bucket " + from.Bucket + " at " + access.Endpoint + ": " + known.Message, Field: field, Cause: known.Cause}
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	answer := minio.ToErrorResponse(err)
	switch {
	case answer.Code == "NoSuchBucket":
		return warpket.Errorf(warpket.Invalid, "%s has no bucket %q", access.Endpoint, from.Bucket).At("object.bucket")
	case answer.StatusCode == http.StatusNotFound:
		return warpket.Errorf(warpket.Invalid, "the bucket %q at %s has no object %.200q", from.Bucket, access.Endpoint, from.Key).At("object.key")
	case answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized:
		return warpket.Errorf(warpket.Invalid, "%s does not let %s/%s be read with what it was given", access.Endpoint, from.Bucket, from.Key).At("object.credentials")
	}
	reason := "its answer cannot be used"
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		reason = "there is no such host"
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		reason = "it did not answer in time"
	}
	return warpket.Because(warpket.Invalid, err, "%s did not give %s/%s: %s", access.Endpoint, from.Bucket, from.Key, reason).At("object")
}
