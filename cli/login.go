package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

// login is what a login stores.
type login struct {
	API   string `json:"api"`
	Token string `json:"token"`
}

func (a *app) loginFile() string { return filepath.Join(a.env.ConfigDir, "warpket", "config.json") }

// stored is the last login; empty when there was none.
func (a *app) stored() (login, error) {
	var l login
	if a.env.ConfigDir == "" {
		return l, nil
	}
	b, err := os.ReadFile(a.loginFile())
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		return login{}, fmt.Errorf("reading %s: %w", a.loginFile(), err)
	}
	return l, nil
}

func (a *app) loginCommand() *cobra.Command {
	var api, token, dev string
	c := &cobra.Command{
		Use:   "login [--api URL] [--token -]",
		Short: "Remember a server and a token",
		Long: `Asks for a token, or reads it from standard input, tries it and stores it with the server's address in your configuration folder, for you alone to read.

WARPKET_API and WARPKET_TOKEN win over what is stored.`,
		Example: "  warpket login --api https://warpket.example\n  warpket login --token - < token.txt\n  warpket login --dev .warpket",
		Args:    takes(),
	}
	c.Flags().StringVar(&api, "api", "", "URL of the server")
	c.Flags().StringVar(&token, "token", "", "- reads the token from standard input")
	c.Flags().StringVar(&dev, "dev", "", "take both from the data folder of a running \"warpket dev\"")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if token != "" && token != "-" {
			return &usageError{c.CommandPath(), "a token on the command line can be seen by others: write --token - and send it to standard input"}
		}
		if dev != "" && (api != "" || token != "") {
			return &usageError{c.CommandPath(), "--dev says it all: leave out --api and --token"}
		}
		l, err := a.newLogin(api, dev)
		if err != nil {
			return err
		}
		return a.login(c, l)
	}
	return c
}

// newLogin gathers the parts of a login.
func (a *app) newLogin(api, dev string) (login, error) {
	if dev != "" {
		return readDev(dev)
	}
	before, err := a.stored()
	if err != nil {
		return login{}, err
	}
	for _, candidate := range []string{a.env.API, before.API, defaultAPI} {
		if api == "" {
			api = candidate
		}
	}
	if _, err := connect(api, ""); err != nil {
		return login{}, err
	}
	token, err := a.askToken(api)
	return login{api, token}, err
}

// readDev reads what a running "warpket dev" tells.
func readDev(dir string) (login, error) {
	file := filepath.Join(dir, "dev.json")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return login{}, &hinted{warpket.Errorf(warpket.NotFound, "%s is not there: no \"warpket dev\" serves with this folder", file), "warpket dev --data " + dir}
	}
	var l login
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		return login{}, fmt.Errorf("reading %s: %w", file, err)
	}
	return l, nil
}

// askToken reads a token: from a terminal without showing it, else a line.
func (a *app) askToken(api string) (string, error) {
	text, asked, err := a.askTerminal("token for " + api)
	if err != nil {
		return "", err
	}
	if !asked {
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		text = line
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", warpket.Errorf(warpket.Invalid, "there was no token to read")
	}
	return text, nil
}

// askTerminal reads a secret from a terminal, without showing it. asked is false
// if there is no terminal.
func (a *app) askTerminal(what string) (text string, asked bool, err error) {
	f, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", false, nil
	}
	fmt.Fprintf(a.err, "%s (it is not shown): ", what)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.err)
	if err != nil {
		return "", true, fmt.Errorf("reading %s: %w", what, err)
	}
	return string(b), true, nil
}

// login tries a login and stores it.
func (a *app) login(c *cobra.Command, l login) error {
	if a.env.ConfigDir == "" {
		return warpket.Errorf(warpket.Invalid, "there is no configuration folder to store it in: set HOME, or use WARPKET_API and WARPKET_TOKEN")
	}
	server, err := connect(l.API, l.Token)
	if err != nil {
		return err
	}
	if _, err := server.ListFunctionsWithResponse(c.Context(), &client.ListFunctionsParams{Limit: new(int64(1))}); err != nil {
		return err
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := writeSecret(a.loginFile(), append(b, '\n')); err != nil {
		return fmt.Errorf("storing the login: %w", err)
	}
	if a.json {
		return json.NewEncoder(a.out).Encode(map[string]string{"api": l.API, "file": a.loginFile()})
	}
	a.note.printf("%s logged in to %s; stored in %s", a.note.paint(good, "✓"), l.API, a.loginFile())
	if a.env.API != "" || a.env.Token != "" {
		a.note.printf("  WARPKET_API and WARPKET_TOKEN, of which one is set, win over it")
	}
	return nil
}

// writeSecret replaces a file that only its owner can read.
func writeSecret(file string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(file, b, 0o600)
}
