package api

import (
	"time"

	"github.com/jellydator/ttlcache/v3"
	"golang.org/x/sync/singleflight"
)

// cache keeps what was read a moment ago, so that warm calls read nothing.
type cache[T any] struct {
	items *ttlcache.Cache[string, T]
	reads singleflight.Group
}

func newCache[T any](life time.Duration) *cache[T] {
	return &cache[T]{items: ttlcache.New(ttlcache.WithTTL[string, T](life), ttlcache.WithDisableTouchOnHit[string, T](), ttlcache.WithCapacity[string, T](10_000))}
}

// get gives the kept value or reads it, once for all who ask at a time.
func (c *cache[T]) get(key string, read func() (T, error)) (T, error) {
	if item := c.items.Get(key); item != nil {
		return item.Value(), nil
	}
	v, err, _ := c.reads.Do(key, func() (any, error) {
		v, err := read()
		if err == nil {
			c.items.Set(key, v, ttlcache.DefaultTTL)
		}
		return v, err
	})
	return v.(T), err //nolint:forcetypeassert // what read gave
}

// drop forgets all values: something was changed here.
func (c *cache[T]) drop() { c.items.DeleteAll() }
