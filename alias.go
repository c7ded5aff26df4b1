package warpket

import "time"

// Alias is a name for one version of a function, or for several that share its
// executions by weight.
type Alias struct {
	ID          ID
	ProjectID   ID
	Name        string
	Description string
	FunctionID  ID
	Routes      []Route
	CreatedDate time.Time
	UpdatedDate time.Time
}

// Route is one of the versions that an alias stands for.
type Route struct {
	Version int `json:"version"` // its number, or DraftNumber
	Weight  int `json:"weight"`  // its share of the sum of all weights
}

// Bounds of aliases.
const (
	MaxRoutes = 10
	MaxWeight = 1_000_000
)

// Check reports what the alias cannot stand for.
func (a Alias) Check() error {
	if err := CheckDescription(a.Description); err != nil {
		return err
	}
	if len(a.Routes) == 0 || len(a.Routes) > MaxRoutes {
		return Errorf(Invalid, "an alias stands for 1 to %d versions, not %d", MaxRoutes, len(a.Routes)).At("versions")
	}
	seen, sum := map[int]bool{}, 0
	for i, r := range a.Routes {
		switch {
		case r.Version < DraftNumber:
			return Errorf(Invalid, "%d is not the number of a version", r.Version).At("versions[%d].version", i)
		case seen[r.Version]:
			return Errorf(Invalid, "version %d is there twice: add its weights up", r.Version).At("versions[%d].version", i)
		case r.Weight < 0 || r.Weight > MaxWeight:
			return Errorf(Invalid, "a weight is from 0 to %d, not %d", MaxWeight, r.Weight).At("versions[%d].weight", i)
		}
		seen[r.Version] = true
		sum += r.Weight
	}
	if sum == 0 {
		return Errorf(Invalid, "all weights are 0, so no version could be chosen: give one of them more").At("versions")
	}
	return nil
}

// Pick chooses the version that one execution runs. random gives a number from
// 0 to n-1.
func (a Alias) Pick(random func(n int) int) int {
	sum := 0
	for _, r := range a.Routes {
		sum += r.Weight
	}
	left := random(sum)
	for _, r := range a.Routes {
		if left -= r.Weight; left < 0 {
			return r.Version
		}
	}
	return a.Routes[len(a.Routes)-1].Version // random kept its promise: never reached
}
