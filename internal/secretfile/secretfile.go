package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/outbox-relay/relay/internal/hint"
)

// mostBytes bounds what is read: a secret is short, and a path given by mistake may name anything.
const mostBytes = 1 << 20

// Bytes returns the content of the file. Its errors carry a hint.
func Bytes(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, explain(path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, explain(path, err)
	}
	if info.IsDir() {
		return nil, hint.New(path+" is a directory", "name the file in it")
	}
	content, err := io.ReadAll(io.LimitReader(file, mostBytes+1))
	switch {
	case err != nil:
		return nil, explain(path, err)
	case len(content) > mostBytes:
		return nil, hint.New(path+" is larger than 1 MiB", "name the file that holds the secret and nothing else")
	case len(strings.TrimSpace(string(content))) == 0:
		return nil, hint.New(path+" is empty", "write the secret into it")
	}
	return content, nil
}

// Text returns the content of a file of one line, without the end of that line. Its errors carry a
// hint.
func Text(path string) (string, error) {
	content, err := Bytes(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(content), "\r\n")
	if strings.ContainsAny(text, "\r\n\x00") {
		return "", hint.New(path+" holds more than one line", "keep the secret alone in it, on one line")
	}
	return text, nil
}

// explain says what is wrong with a path in plain words, and what to do.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hint.New(path+" does not exist", "check the path, and that the secret is mounted there")
	case errors.Is(err, fs.ErrPermission):
		return hint.New(fmt.Sprintf("%s may not be read by this user (uid %d)", path, os.Geteuid()),
			fmt.Sprintf("chown %d %s, or give its group the right to read", os.Geteuid(), path))
	}
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		err = of.Err
	}
	return fmt.Errorf("read %s: %w", path, err)
}
