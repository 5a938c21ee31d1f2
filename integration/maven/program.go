package maven

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/outbox-relay/relay/internal/cache"
)

// The release of Maven that is fetched where none is installed, and the checksum that its makers
// publish for it.
const (
	mavenVersion = "3.9.11"
	mavenSHA512  = "bcfe4fe305c962ace56ac7b5fc7a08b87d5abd8b7e89027ab251069faebee516" +
		"b0ded8961445d6d91ec1985dfe30f8153268843c89aa392733d1a3ec956c9978"
)

// RepositoryVariable names a Maven repository, by its base address, from which Maven itself is
// fetched where none is installed.
const RepositoryVariable = "RELAY_TEST_MAVEN_REPOSITORY"

// mavenArchive is where that release is in a repository.
const mavenArchive = "/org/apache/maven/apache-maven/" + mavenVersion + "/apache-maven-" + mavenVersion + "-bin.tar.gz"

// program returns the path of the program mvn: an installed one, so that its settings hold, or one
// that is fetched once.
func program(ctx context.Context) (string, error) {
	if installed, err := exec.LookPath("mvn"); err == nil {
		return installed, nil
	}
	dir, err := cache.Folder(ctx, "maven-"+mavenVersion, func(ctx context.Context, dir string) error {
		repository := strings.TrimRight(os.Getenv(RepositoryVariable), "/")
		if repository == "" {
			return fmt.Errorf("none is installed, and %s names no repository to fetch it from", RepositoryVariable)
		}
		archive, err := download(ctx, repository+mavenArchive, mavenSHA512)
		if err != nil {
			return err
		}
		return Unpack(bytes.NewReader(archive), dir)
	})
	if err != nil {
		return "", fmt.Errorf("fetch Maven: %w; install Maven (for example: apt-get install maven)", err)
	}
	return filepath.Join(dir, "apache-maven-"+mavenVersion, "bin", "mvn"), nil
}

// download returns what lies at the address, if its SHA-512 is the one that is wanted.
func download(ctx context.Context, address, want string) (content []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", address, response.Status)
	}
	if content, err = io.ReadAll(response.Body); err != nil {
		return nil, fmt.Errorf("get %s: %w", address, err)
	}
	if sum := sha512.Sum512(content); hex.EncodeToString(sum[:]) != want {
		return nil, fmt.Errorf("get %s: the checksum %x is not the one expected", address, sum)
	}
	return content, nil
}

// Unpack writes the files of a compressed tar archive below dir.
func Unpack(archive io.Reader, dir string) error {
	plain, err := gzip.NewReader(archive)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	files := tar.NewReader(plain)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if !filepath.IsLocal(header.Name) || strings.Contains(header.Name, `\`) {
			return fmt.Errorf("unpack: the archive holds %q, which would lie outside of its folder", header.Name)
		}
		if header.Typeflag != tar.TypeReg {
			continue // folders are made with their files; there is nothing else in it
		}
		if err := unpackFile(files, filepath.Join(dir, header.Name), header.FileInfo().Mode().Perm()); err != nil {
			return fmt.Errorf("unpack %s: %w", header.Name, err)
		}
	}
}

func unpackFile(content io.Reader, path string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
