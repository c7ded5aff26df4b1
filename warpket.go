// Package warpket holds the words of the product as types: projects, functions,
// their immutable versions, deployments, slots and executions, with the rules
// that say which changes of them are legal. It depends on nothing but the
// standard library; everything else depends on it.
package warpket
