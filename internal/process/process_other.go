//go:build !unix

package process

import (
	"errors"
	"os"
	"syscall"
)

func tieToParent(*syscall.SysProcAttr, syscall.Signal) (release func()) { return func() {} }

// Freeze is not supported on this system.
func (p *Process) Freeze() error { return errors.ErrUnsupported }

// Thaw is not supported on this system.
func (p *Process) Thaw() error { return errors.ErrUnsupported }

func killGroup(leader *os.Process) error { return leader.Kill() }
