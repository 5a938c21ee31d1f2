//go:build unix

package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// abandoned makes a folder that looks as if its maker had been killed.
func abandoned(t *testing.T, parent string) string {
	t.Helper()
	folder, err := New(parent, "relay-")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(folder.lock.Close(), os.WriteFile(filepath.Join(folder.Path, "data"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return folder.Path
}

// Every user can make a folder of our name among the temporary files. It stays as it is, and does
// not keep us from our own.
func TestFoldersOfOthersAreLeftAloneAndInNobodysWay(t *testing.T) {
	if os.Geteuid() != 0 {
		theirs := "/" // root's, and never named like ours
		info, err := os.Lstat(theirs)
		if err != nil || ours(info, nil) || !ours(info, []int{0}) {
			t.Fatalf("%s is taken for ours (%v)", theirs, err)
		}
		return // only root can give a folder to somebody else
	}
	const stranger, server = 65533, 65532
	parent := t.TempDir()
	give := func(folder string, user int) string {
		t.Helper()
		for _, name := range []string{"", lockName, "data"} {
			if err := os.Lchown(filepath.Join(folder, name), user, user); err != nil {
				t.Fatal(err)
			}
		}
		return folder
	}
	theirs := give(abandoned(t, parent), stranger)
	handedOver := give(abandoned(t, parent), server)
	next, err := New(parent, "relay-", server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(theirs, "data")); err != nil {
		t.Errorf("the folder of somebody else was touched: %v", err)
	}
	if _, err := os.Lstat(handedOver); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder that was handed over remains: %v", err)
	}
	if err := next.Remove(); err != nil {
		t.Error(err)
	}
}

// A link in the place of a folder, or of the lock in it, leads nowhere.
func TestNoSymbolicLinkIsFollowed(t *testing.T) {
	parent, elsewhere := t.TempDir(), t.TempDir()
	target := filepath.Join(elsewhere, lockName)
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(parent, "relay-folder")
	if err := errors.Join(
		os.Symlink(elsewhere, filepath.Join(parent, "relay-link")),
		os.Mkdir(folder, 0o700),
		os.Symlink(target, filepath.Join(folder, lockName)),
	); err != nil {
		t.Fatal(err)
	}
	next, err := New(parent, "relay-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := next.Remove(); err != nil {
			t.Error(err)
		}
	}()
	if text, err := os.ReadFile(target); err != nil || string(text) != "precious" {
		t.Errorf("what the link leads to was touched: %q, %v", text, err)
	}
	if _, err := os.Lstat(folder); err != nil {
		t.Errorf("the folder whose lock is a link was taken for an abandoned one: %v", err)
	}
	info, err := os.Lstat(next.Path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into the folder: %v, %v", info.Mode(), err)
	}
}
