package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The parts, in the order in which they start. They stop in reverse.
const (
	postgresPart = "postgres"
	s3Part       = "s3"
	temporalPart = "temporal"
)

var allParts = []string{postgresPart, s3Part, temporalPart}

// options is what the caller chose.
type options struct {
	data        string // absolute
	cache       string // absolute; holds what several devstacks share
	parts       []string
	postgresURL string // the Postgres Temporal uses when postgres is not among the parts
	watch       bool   // stop when standard input ends
}

func (o options) has(part string) bool { return slices.Contains(o.parts, part) }

// path is a path inside the data directory.
func (o options) path(elem ...string) string {
	return filepath.Join(append([]string{o.data}, elem...)...)
}

// parseOptions reads the arguments and makes the directories. It reports all
// mistakes together.
func parseOptions(args []string, getenv func(string) string, usage io.Writer) (options, error) {
	flags := flag.NewFlagSet("warpket-devstack", flag.ContinueOnError)
	flags.SetOutput(usage)
	data := flags.String("data", "", "directory for everything that is kept (required)")
	parts := flags.String("parts", strings.Join(allParts, ","), "what to run; temporal includes its UI")
	postgresURL := flags.String("postgres-url", getenv("WARPKET_DEVSTACK_POSTGRES_URL"),
		"the Postgres that Temporal uses when postgres is not among the parts; the environment hides its password from ps")
	cache := flags.String("cache", getenv("WARPKET_CACHE"), "directory for downloads, shared by all devstacks (default: the user's cache directory)")
	noWatch := flags.Bool("no-watch", false, "do not stop when standard input ends")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}

	o := options{postgresURL: *postgresURL, watch: !*noWatch}
	var mistakes []error
	for part := range strings.SplitSeq(*parts, ",") {
		if !slices.Contains(allParts, part) {
			mistakes = append(mistakes, fmt.Errorf("--parts: there is no part %q; the parts are %s", part, strings.Join(allParts, ", ")))
		}
		o.parts = append(o.parts, part)
	}
	switch {
	case o.has(postgresPart) && o.postgresURL != "":
		mistakes = append(mistakes, errors.New("--postgres-url is for a Postgres of your own: leave postgres out of --parts, or leave out --postgres-url"))
	case o.has(temporalPart) && !o.has(postgresPart) && o.postgresURL == "":
		mistakes = append(mistakes, errors.New("temporal needs a Postgres: add postgres to --parts, or give --postgres-url"))
	case o.postgresURL != "":
		// The error of pgx is left out: it could repeat the password.
		if _, err := pgx.ParseConfig(o.postgresURL); err != nil {
			mistakes = append(mistakes, errors.New("--postgres-url is not a URL like postgres://user:password@host:port/database"))
		}
	}
	if flags.NArg() > 0 {
		mistakes = append(mistakes, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	if *data == "" {
		mistakes = append(mistakes, errors.New("--data is required: the directory for everything that is kept"))
	}
	if len(mistakes) > 0 {
		return options{}, errors.Join(mistakes...)
	}

	var err error
	// Others may enter it, as Postgres may run as another user, but not look
	// around; what is in it has its own protection.
	if o.data, err = makeDir(*data, 0o711); err != nil {
		return options{}, fmt.Errorf("the data directory cannot be used: %w", err)
	}
	if o.cache, err = makeCache(*cache, o.data); err != nil {
		return options{}, fmt.Errorf("the cache directory cannot be used: %w", err)
	}
	return o, nil
}

// makeCache makes the directory that was asked for, or else one in the user's
// cache. Without a home that can be written to, the cache is in the data
// directory and shared with nobody.
func makeCache(asked, data string) (string, error) {
	if asked != "" {
		return makeDir(asked, 0o755)
	}
	if user, err := os.UserCacheDir(); err == nil {
		if dir, err := makeDir(filepath.Join(user, "warpket"), 0o755); err == nil {
			return dir, nil
		}
	}
	return makeDir(filepath.Join(data, "cache"), 0o755)
}

// makeDir makes a directory if it is not there, and returns its absolute path
// without symbolic links: parts run elsewhere and compare paths.
func makeDir(dir string, mode os.FileMode) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}
