package api

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"golang.org/x/sync/singleflight"
)

// cache keeps what was read a moment ago, so that warm calls read nothing.
type cache[T any] struct {
	items *ttlcache.Cache[string, T]
	reads singleflight.Group
	drops atomic.Uint64 // part of all keys: a read that began before a drop is not found after it
}

func newCache[T any](life time.Duration) *cache[T] {
	return &cache[T]{items: ttlcache.New(ttlcache.WithTTL[string, T](life), ttlcache.WithDisableTouchOnHit[string, T](), ttlcache.WithCapacity[string, T](10_000))}
}

// get gives the kept value or reads it, once for all who ask at a time.
func (c *cache[T]) get(key string, read func() (T, error)) (T, error) {
	key = strconv.FormatUint(c.drops.Load(), 36) + " " + key
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

// drop forgets all values, also those that are being read: something was
// changed here.
func (c *cache[T]) drop() {
	c.drops.Add(1)
	c.items.DeleteAll()
}
