package secretfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outbox-relay/relay/internal/hint"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheEndOfTheLineIsNoPartOfTheSecret(t *testing.T) {
	for content, want := range map[string]string{
		"hunter2": "hunter2", "hunter2\n": "hunter2", "hunter2\r\n": "hunter2", " with spaces ": " with spaces ", "a\n\n": "a",
	} {
		if got, err := Text(write(t, content)); err != nil || got != want {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
}

func TestFaultsAreNamedWithAHintAndWithoutTheSecret(t *testing.T) {
	folder := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(folder, "absent"):                 "does not exist",
		folder:                                          "is a directory",
		write(t, ""):                                    "is empty",
		write(t, " \n\t\n"):                             "is empty",
		write(t, "hunter2\nand more\n"):                 "more than one line",
		write(t, "hunter2\x00"):                         "more than one line",
		write(t, strings.Repeat("hunter2", 1<<20)):      "larger than 1 MiB",
		filepath.Join(write(t, "hunter2"), "not-a-dir"): "not a directory",
	} {
		_, err := Text(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", path, err, want)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the secret: %v", err)
		}
		if len(hint.Of(err)) == 0 && want != "not a directory" {
			t.Errorf("%v has no hint", err)
		}
	}
}

func TestAFileIsReadAnewEachTime(t *testing.T) {
	path := write(t, "before")
	for _, want := range []string{"before", "after"} {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Text(path); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

// The tests may run as root, who may read everything, so the error is made by hand.
func TestAFileOfAnotherUserIsExplained(t *testing.T) {
	err := explain("/run/secret", &fs.PathError{Op: "open", Path: "/run/secret", Err: syscall.EACCES})
	if !strings.Contains(err.Error(), "/run/secret may not be read by this user") || len(hint.Of(err)) != 1 {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
}
