// Package blob keeps bytes in an S3 object store, each under
// {project}/{sha256 of the bytes}. Whoever knows a hash can thus claim nothing
// of another project, and storing the same bytes twice is harmless.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/warpket/warpket"
)

// Config says where the object store is.
type Config struct {
	Endpoint  string // URL, such as "https://minio.example:9000"
	AccessKey string
	SecretKey string
	Bucket    string
	Region    string
	Transport http.RoundTripper // nil for the default; carries TLS settings
}

// Store is one bucket.
type Store struct {
	client *minio.Client
	bucket string
}

// New makes a Store. It does not connect; see Ready.
func New(c Config) (*Store, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, warpket.Errorf(warpket.Invalid, "the S3 endpoint %q is no URL: want http://HOST:PORT or https://HOST:PORT", c.Endpoint)
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds:     credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""),
		Secure:    u.Scheme == "https",
		Region:    c.Region,
		Transport: c.Transport,
	})
	if err != nil {
		return nil, fmt.Errorf("making the S3 client: %w", err)
	}
	return &Store{client: client, bucket: c.Bucket}, nil
}

// Ready makes the bucket if it is missing and reports whether it can be used.
func (s *Store) Ready(ctx context.Context) error {
	ok, err := s.client.BucketExists(ctx, s.bucket)
	if err == nil && !ok {
		err = s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{})
		if code := minio.ToErrorResponse(err).Code; code == "BucketAlreadyOwnedByYou" || code == "BucketAlreadyExists" {
			err = nil
		}
	}
	return explain(err, s.bucket)
}

// Key is where a project's bytes of that hash are.
func Key(project warpket.ID, sha256 string) string { return string(project) + "/" + sha256 }

// Put stores bytes and gives their hash. The row of the object must have been
// touched before, see postgres.TouchObjects.
func (s *Store) Put(ctx context.Context, project warpket.ID, b []byte) (string, error) {
	sum := warpket.SHA256(b)
	_, err := s.client.PutObject(ctx, s.bucket, Key(project, sum), bytes.NewReader(b), int64(len(b)), minio.PutObjectOptions{
		ContentType: "application/octet-stream", SendContentMd5: true,
		// Signed in chunks, nothing is a chunk too, which versitygw takes for the next request.
		DisableContentSha256: len(b) == 0,
	})
	return sum, explain(err, sum)
}

// Get gives bytes by their hash, and an error rather than other bytes.
func (s *Store) Get(ctx context.Context, project warpket.ID, sum string) ([]byte, error) {
	r, err := s.Open(ctx, project, sum)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, explain(err, sum)
	}
	if warpket.SHA256(b) != sum {
		return nil, fmt.Errorf("object %s/%s holds other bytes than its name says", project, sum)
	}
	return b, nil
}

// Open gives a reader of bytes by their hash, for passing large ones on. It
// does not check them.
func (s *Store) Open(ctx context.Context, project warpket.ID, sum string) (io.ReadCloser, error) {
	// One plain request: the client's own reader asks for ranges, which a store
	// may refuse of an empty object.
	r, _, _, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, Key(project, sum), minio.GetObjectOptions{})
	if err != nil {
		return nil, explain(err, sum)
	}
	return r, nil
}

// Has reports whether the bytes are there, and how many.
func (s *Store) Has(ctx context.Context, project warpket.ID, sum string) (bool, int64, error) {
	info, err := s.client.StatObject(ctx, s.bucket, Key(project, sum), minio.StatObjectOptions{})
	if warpket.KindOf(explain(err, sum)) == warpket.NotFound {
		return false, 0, nil
	}
	return err == nil, info.Size, explain(err, sum)
}

// Remove deletes bytes. Deleting what is not there does nothing.
func (s *Store) Remove(ctx context.Context, project warpket.ID, sum string) error {
	return explain(s.client.RemoveObject(ctx, s.bucket, Key(project, sum), minio.RemoveObjectOptions{}), sum)
}

// GetURL is a URL that gives the bytes to whoever has it, for a while.
func (s *Store) GetURL(ctx context.Context, project warpket.ID, sum string, valid time.Duration) (string, error) {
	u, err := s.client.PresignedGetObject(ctx, s.bucket, Key(project, sum), valid, nil)
	if err != nil {
		return "", explain(err, sum)
	}
	return u.String(), nil
}

// Upload is a request that its holder may make for a while: it stores exactly
// the bytes of one hash, for size and checksum are part of the signature.
type Upload struct {
	URL    string
	Header map[string]string
}

// PutURL makes an Upload for bytes of that hash and size.
func (s *Store) PutURL(ctx context.Context, project warpket.ID, sum string, size int64, valid time.Duration) (Upload, error) {
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != sha256.Size {
		return Upload{}, warpket.Errorf(warpket.Invalid, "%q is no SHA-256 in hexadecimal", sum)
	}
	header := http.Header{
		"Content-Length":        {strconv.FormatInt(size, 10)},
		"X-Amz-Checksum-Sha256": {base64.StdEncoding.EncodeToString(raw)},
	}
	u, err := s.client.PresignHeader(ctx, http.MethodPut, s.bucket, Key(project, sum), valid, nil, header)
	if err != nil {
		return Upload{}, explain(err, sum)
	}
	return Upload{URL: u.String(), Header: map[string]string{"X-Amz-Checksum-Sha256": header.Get("X-Amz-Checksum-Sha256")}}, nil
}

// explain gives the store's errors their kinds.
func explain(err error, name string) error {
	if err == nil {
		return nil
	}
	switch r := minio.ToErrorResponse(err); {
	case r.StatusCode == http.StatusNotFound:
		return warpket.Because(warpket.NotFound, err, "the object %s is not in the object store", name)
	case r.StatusCode == 0 || r.StatusCode >= 500:
		return warpket.Because(warpket.Unavailable, err, "the object store does not answer; try again in a moment")
	}
	return fmt.Errorf("object %s: %w", name, err)
}
