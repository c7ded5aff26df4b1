package main

import (
	"errors"
	"io/fs"
	"os"
)

// logLimit is the size from which a log is set aside when it is next opened.
const logLimit = 10 << 20

// openLog opens a log for appending. One that has grown too big is kept as the
// single older log beside it.
func openLog(path string) (*os.File, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Size() > logLimit:
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}
