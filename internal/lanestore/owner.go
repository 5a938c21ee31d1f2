package lanestore

import (
	"fmt"
	"os"

	"github.com/google/uuid"
)

// NewOwner returns a name for this process among all that ever owned a lane.
func NewOwner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()[:8])
}
