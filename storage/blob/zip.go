package blob

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/warpket/warpket"
)

// Zip packs files into w, one at a time, as they are read. Their paths have been
// checked, see warpket.CheckFiles.
func (s *Store) Zip(ctx context.Context, w io.Writer, project warpket.ID, files []warpket.File, modified time.Time) error {
	z := zip.NewWriter(w)
	for _, f := range files {
		content, err := s.Get(ctx, project, f.SHA256)
		if err != nil {
			return fmt.Errorf("packing %s: %w", f.Path, err)
		}
		part, err := z.CreateHeader(&zip.FileHeader{Name: f.Path, Method: zip.Deflate, Modified: modified})
		if err == nil {
			_, err = part.Write(content)
		}
		if err != nil {
			return fmt.Errorf("packing %s: %w", f.Path, err)
		}
	}
	return z.Close()
}
