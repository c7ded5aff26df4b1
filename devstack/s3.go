package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"golang.org/x/sys/unix"
)

const (
	bucket = "warpket"
	region = "us-east-1"
	s3Port = "s3" // in ports.json
)

// s3Settings are what the child that serves S3 needs to know.
type s3Settings struct {
	Objects   string // the directory of the buckets
	Metadata  string // where what S3 knows about objects is kept, or "" for attributes of their files
	Port      int
	AccessKey string
	SecretKey string
}

// prepareS3 makes the directories of the object store.
func (d *devstack) prepareS3(context.Context) (any, user, error) {
	s := s3Settings{
		Port:      d.ports.of(s3Port),
		AccessKey: d.creds.S3.AccessKey,
		SecretKey: d.creds.S3.SecretKey,
	}
	var err error
	if s.Objects, err = makeDir(d.cfg.path("s3"), 0o700); err != nil {
		return nil, user{}, err
	}
	// What was chosen at first stays: metadata of old objects is where it is.
	// The name must not begin with that of the other directory, or versitygw
	// takes it for one inside.
	sidecar := d.cfg.path("metadata-s3")
	if exists(sidecar) || !keepsAttributes(s.Objects) {
		if s.Metadata, err = makeDir(sidecar, 0o700); err != nil {
			return nil, user{}, err
		}
	}
	return s, user{}, nil
}

// keepsAttributes says whether files in a directory can have extended attributes.
func keepsAttributes(dir string) bool {
	f, err := os.CreateTemp(dir, ".attributes-")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return unix.Fsetxattr(int(f.Fd()), "user.warpket", []byte("1"), 0) == nil
}

// serveS3 serves the object store until ctx ends.
func serveS3(ctx context.Context, p *part, s s3Settings) error {
	endWithin(ctx, time.Second) // objects appear whole: what is cut off was not there yet
	var keep meta.MetadataStorer = meta.XattrMeta{}
	if s.Metadata != "" {
		sidecar, err := meta.NewSideCar(s.Metadata)
		if err != nil {
			return err
		}
		keep = sidecar
	}
	// It changes the working directory of the whole process.
	store, err := posix.New(s.Objects, keep, posix.PosixOpts{
		SideCarDir:          s.Metadata,
		CopyObjectThreshold: 5 << 30, // S3's own; without it nothing can be copied
	})
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancelCause(ctx)
	listening := func() {
		go func() {
			if err := createBucket(ctx, s); err != nil {
				stop(err)
				return
			}
			p.report(ready, "")
		}()
	}
	err = embedgw.RunVersityGW(ctx, store, &embedgw.Config{
		RootUserAccess:    s.AccessKey,
		RootUserSecret:    s.SecretKey,
		Region:            region,
		Ports:             []string{local(s.Port)},
		MaxConnections:    20_000,
		MaxRequests:       10_000,
		MultipartMaxParts: 10_000,
		KeepAlive:         true,
		Quiet:             true,
		S3Options:         []s3api.Option{s3api.WithOnListen(listening)},
	})
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// createBucket creates the product's bucket if it is not there.
func createBucket(ctx context.Context, s s3Settings) error {
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://127.0.0.1:" + strconv.Itoa(s.Port)),
		Region:       region,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	if err == nil || errors.As(err, new(*types.BucketAlreadyOwnedByYou)) {
		return nil
	}
	return fmt.Errorf("creating bucket %s: %w", bucket, err)
}
