package sources_test

import (
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
	"github.com/warpket/warpket/sources"
	"github.com/warpket/warpket/teststack"
)

// bucket is a bucket with objects, and what opens it.
func bucket(t *testing.T, objects map[string][]byte) (string, warpket.ObjectAuth) {
	t.Helper()
	s3 := teststack.S3(t)
	u, err := url.Parse(s3.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	client, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(s3.AccessKey, s3.SecretKey, ""), Region: s3.Region})
	if err != nil {
		t.Fatal(err)
	}
	for key, content := range objects {
		if _, err := client.PutObject(t.Context(), s3.Bucket, key, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return s3.Bucket, warpket.ObjectAuth{Endpoint: s3.Endpoint, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey, Region: s3.Region}
}

func here() http.RoundTripper {
	return egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}.Transport(nil)
}

func TestAnObjectIsAZipOrAFile(t *testing.T) {
	t.Parallel()
	packed := zipped(t, entry{name: "handler.py", content: "x = 1\n"}, entry{name: "lib/a", content: "a"})
	name, auth := bucket(t, map[string][]byte{"functions/bell": packed, "functions/handler.py": []byte("x = 2\n")})
	ours := sources.Objects{Buckets: []sources.Bucket{{Name: name, ObjectAuth: auth}}}
	theirs := sources.Objects{Transport: here()}
	for key, want := range map[string]string{"functions/bell": "handler.py lib/a", "functions/handler.py": "handler.py"} {
		for who, fetch := range map[string]func(warpket.Source) ([]sources.File, warpket.Source, error){
			"the operator's bucket": func(s warpket.Source) ([]sources.File, warpket.Source, error) { return ours.Fetch(t.Context(), s, nil) },
			"the project's bucket": func(s warpket.Source) ([]sources.File, warpket.Source, error) {
				return theirs.Fetch(t.Context(), s, &auth)
			},
		} {
			files, from, err := fetch(warpket.Source{Kind: warpket.SourceObject, Bucket: name, Key: key})
			if err != nil {
				t.Errorf("%s, %s: %v", who, key, err)
				continue
			}
			var paths []string
			for _, f := range files {
				paths = append(paths, f.Path)
			}
			if strings.Join(paths, " ") != want || from.Endpoint != auth.Endpoint || from.ETag == "" || len(from.SHA256) != 64 || len(from.MD5) != 32 {
				t.Errorf("%s, %s: %v from %+v", who, key, paths, from)
			}
		}
	}
}

func TestObjectsThatCannotBeHadSayWhatWouldWork(t *testing.T) {
	t.Parallel()
	name, auth := bucket(t, map[string][]byte{"large": bytes.Repeat([]byte("x"), warpket.MaxFileSize+1), "bad.zip": []byte("PK\x03\x04 and no more")})
	wrong := auth
	wrong.SecretKey = "clownfish"
	private := auth
	private.Endpoint = "http://10.0.0.1:9000"
	listed := []sources.Bucket{{Name: "operators", ObjectAuth: auth}}
	own := sources.Bucket{Name: name, ObjectAuth: auth}
	tests := map[string]struct {
		from    sources.Objects
		bucket  string
		key     string
		auth    *warpket.ObjectAuth
		kind    warpket.Kind
		message string
	}{
		"a bucket that nobody listed": {sources.Objects{Buckets: listed}, name, "x", nil, warpket.Denied, "the operator's are: operators"},
		"warpket's own":               {sources.Objects{Own: own, Transport: here()}, name, "x", &auth, warpket.Denied, "warpket's own"},
		"a private host":              {sources.Objects{Transport: here()}, name, "x", &private, warpket.Denied, "not a public address"},
		"this machine":                {sources.Objects{Transport: egress.Guard{}.Transport(nil)}, name, "x", &auth, warpket.Denied, "not a public address"},
		"no such object":              {sources.Objects{Transport: here()}, name, "x", &auth, warpket.Invalid, "has no object"},
		"no such bucket":              {sources.Objects{Transport: here()}, "no-such-bucket", "x", &auth, warpket.Invalid, "no-such-bucket"},
		"a wrong key":                 {sources.Objects{Transport: here()}, name, "x", &wrong, warpket.Invalid, "does not let"},
		"too large a file":            {sources.Objects{Transport: here()}, name, "large", &auth, warpket.TooLarge, "a file has at most"},
		"a bad zip":                   {sources.Objects{Transport: here()}, name, "bad.zip", &auth, warpket.Invalid, "not a zip"},
	}
	for about, test := range tests {
		_, _, err := test.from.Fetch(t.Context(), warpket.Source{Kind: warpket.SourceObject, Bucket: test.bucket, Key: test.key}, test.auth)
		if warpket.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.message) || strings.Contains(err.Error(), "clownfish") {
			t.Errorf("%s: %v", about, err)
		}
	}
}

func TestTheOperatorsBucketsAreReadFromTheirURLs(t *testing.T) {
	t.Parallel()
	b, err := sources.ParseBucket("https://key:sw%2Fordfish@s3.example:9000/functions?region=eu")
	if err != nil || b.Name != "functions" || b.Endpoint != "https://s3.example:9000" || b.AccessKey != "key" || b.SecretKey != "sw/ordfish" || b.Region != "eu" {
		t.Errorf("%+v %v", b.Name, err)
	}
	for _, text := range []string{"functions", "s3.example/functions", "https://s3.example", "https://s3.example/a/b", "ftp://x:swordfish@s3.example/a"} {
		if _, err := sources.ParseBucket(text); err == nil || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: %v", text, err)
		}
	}
	own := sources.Bucket{Name: "warpket", ObjectAuth: warpket.ObjectAuth{Endpoint: "http://s3.example"}}
	same := sources.Bucket{Name: "warpket", ObjectAuth: warpket.ObjectAuth{Endpoint: "http://S3.example.:80/"}}
	other := sources.Bucket{Name: "functions", ObjectAuth: own.ObjectAuth}
	for _, test := range []struct {
		buckets []sources.Bucket
		ok      bool
	}{{[]sources.Bucket{other}, true}, {[]sources.Bucket{other, same}, false}, {[]sources.Bucket{other, other}, false}} {
		if err := (sources.Objects{Buckets: test.buckets, Own: own}).Check(); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test.buckets, err)
		}
	}
}
