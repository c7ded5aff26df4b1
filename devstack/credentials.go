package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// accounts are made once per data directory and kept in it.
type accounts struct {
	Postgres struct {
		User     string `json:"user"`
		Password string `json:"password"`
	} `json:"postgres"`
	S3 struct {
		AccessKey string `json:"accessKey"`
		SecretKey string `json:"secretKey"`
	} `json:"s3"`
}

// loadCredentials reads the credentials of a data directory, or makes them if
// it is new. Making new ones for old data would lock everybody out of it.
func loadCredentials(cfg options) (accounts, error) {
	var c accounts
	path := cfg.path("credentials.json")
	text, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(text, &c); err != nil {
			return c, fmt.Errorf("%s is damaged (%w): put back the copy that belongs to this data", path, err)
		}
		return c, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if exists(cfg.path(dataDir)) {
		return c, fmt.Errorf("%s is missing, but there is data that it opens: put it back", path)
	}
	c.Postgres.User = "warpket"
	c.Postgres.Password = rand.Text()
	c.S3.AccessKey = rand.Text()
	c.S3.SecretKey = rand.Text()
	return c, writeJSON(path, c)
}

// writeJSON replaces a file whole, readable by its owner only.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
