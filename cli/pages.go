package cli

import (
	"encoding/json"
	"fmt"
)

// maxPage is the most items that one page of a list holds.
const maxPage = 200

// page is one page of any list.
type page struct {
	Items      []json.RawMessage `json:"items"`
	NextCursor string            `json:"nextCursor,omitempty"`
}

// gather reads pages until it has so many items, or all if limit is 0.
func gather(limit int, read func(cursor *string, limit *int64) ([]byte, error)) (page, error) {
	all := page{Items: []json.RawMessage{}}
	var cursor *string
	for {
		n := maxPage
		if limit > 0 {
			n = min(n, limit-len(all.Items))
		}
		body, err := read(cursor, new(int64(n)))
		if err != nil {
			return page{}, err
		}
		var p page
		if err := json.Unmarshal(body, &p); err != nil {
			return page{}, fmt.Errorf("reading a list: %w", err)
		}
		all.Items, all.NextCursor = append(all.Items, p.Items...), p.NextCursor
		if p.NextCursor == "" || limit > 0 && len(all.Items) >= limit {
			return all, nil
		}
		cursor = &p.NextCursor
	}
}

// decode reads the items of a list.
func decode[T any](items []json.RawMessage) ([]T, error) {
	out := make([]T, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item, &out[i]); err != nil {
			return nil, fmt.Errorf("reading a list: %w", err)
		}
	}
	return out, nil
}

// given is a parameter that is left out when it is empty.
func given[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}
