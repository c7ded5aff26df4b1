package warpket

import "time"

// Act is one entry of the audit: something that was done, or tried.
type Act struct {
	ID          ID
	ProjectID   ID // in which it was done
	TokenID     ID
	TokenName   string
	Member      string // whom the token was issued to; empty for a project's own
	Role        Role
	Operation   string // ID of the operation
	Subject     string // what it was done to: the IDs and names in the path, or the ID of what was to be made
	Address     string // of the caller
	Agent       string // what the caller's program calls itself
	Status      int    // HTTP status of the answer; 0 while there is none, also when the server has died
	CreatedDate time.Time
}
