package sandbox

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/outbox-relay/relay/internal/cache"
)

// oldestPostgres is the oldest major version that the outbox works on.
const oldestPostgres = 14

// newestFetched is the major version that is fetched where none is asked for and none is installed.
const newestFetched = "18"

// fetchable maps a major version to the release that is fetched for it.
var fetchable = map[string]embeddedpostgres.PostgresVersion{
	"14": embeddedpostgres.V14,
	"15": embeddedpostgres.V15,
	"16": embeddedpostgres.V16,
	"17": embeddedpostgres.V17,
	"18": embeddedpostgres.V18,
}

// installedPlaces are where distributions and installers put a server's programs, as patterns.
var installedPlaces = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// postgresBinaries returns the folder that holds initdb and postgres. An empty version takes the newest installed server,
// and fetches one where there is none; a given version is always fetched, so that it is the same everywhere.
func postgresBinaries(ctx context.Context, version string, notice func(string)) (string, error) {
	if version != "" {
		return fetchedBinaries(ctx, version, notice)
	}
	if dir, ok := installedBinaries(ctx); ok {
		return dir, nil
	}
	dir, err := fetchedBinaries(ctx, newestFetched, notice)
	if err != nil {
		return "", fmt.Errorf("find Postgres: no server of version %d or later is installed, and none could be fetched: %w",
			oldestPostgres, err)
	}
	return dir, nil
}

// installedBinaries finds the newest installed server that the user who will run it can reach.
func installedBinaries(ctx context.Context) (dir string, ok bool) {
	type candidate struct {
		dir   string
		major int
	}
	var found []candidate
	for _, dir := range candidateFolders(ctx) {
		major, ok := serverVersion(ctx, dir)
		if ok && major >= oldestPostgres && (os.Geteuid() != 0 || cache.OpenToAll(dir)) {
			found = append(found, candidate{dir, major})
		}
	}
	if len(found) == 0 {
		return "", false
	}
	newest := slices.MaxFunc(found, func(a, b candidate) int { return cmp.Compare(a.major, b.major) })
	return newest.dir, true
}

func candidateFolders(ctx context.Context) []string {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	for _, pattern := range installedPlaces {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			panic(err) // the patterns are constants
		}
		dirs = append(dirs, matches...)
	}
	return dirs
}

var versionPattern = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// serverVersion asks the server in dir for its major version; not ok where there is no whole server.
func serverVersion(ctx context.Context, dir string) (major int, ok bool) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0, false
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, false
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return 0, false
	}
	major, err = strconv.Atoi(string(match[1]))
	return major, err == nil
}

func fetchedBinaries(ctx context.Context, version string, notice func(string)) (string, error) {
	release, ok := fetchable[version]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(fetchable)), ", ")
		return "", fmt.Errorf("fetch Postgres: version %q is none of %s", version, known)
	}
	dir, err := cache.Folder(ctx, "postgres-"+string(release), func(ctx context.Context, dir string) error {
		notice(fmt.Sprintf("fetching Postgres %s, once", release))
		return fetch(ctx, release, version, dir)
	})
	if err != nil {
		return "", fmt.Errorf("fetch Postgres %s: %w; allow this machine to reach Maven Central, or install a server "+
			"(for example: apt-get install postgresql)", release, err)
	}
	return filepath.Join(dir, "bin"), nil
}

// fetch puts a release of Postgres into dir. The library has no call that fetches and does not start, so it is given a data
// folder that holds a version and nothing else: it takes that for an initialised one, fetches and unpacks the programs,
// and then cannot start a server on it, on any system and as any user. What it unpacked is what counts.
func fetch(ctx context.Context, release embeddedpostgres.PostgresVersion, major, dir string) error {
	decoy := filepath.Join(dir, "fetch", "data")
	if err := os.MkdirAll(decoy, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(decoy, "PG_VERSION"), []byte(major+"\n"), 0o644); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	var log bytes.Buffer
	library := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(release).Port(uint32(port)).Logger(&log).
		CachePath(filepath.Join(dir, "fetch", "archive")).RuntimePath(filepath.Join(dir, "fetch", "run")).
		BinariesPath(filepath.Join(dir, "fetch", "programs")).DataPath(decoy))
	fetched := make(chan error, 1)
	go func() {
		defer func() {
			if fault := recover(); fault != nil { // it panics where its folder was removed because ctx ended
				fetched <- fmt.Errorf("unpack: %v", fault)
			}
		}()
		fetched <- library.Start()
	}()
	defer removeLibraryLog()
	select {
	case <-ctx.Done():
		return errors.Join(ctx.Err(), abandon(filepath.Join(dir, "fetch"), fetched))
	case err = <-fetched:
	}
	programs := filepath.Join(dir, "fetch", "programs")
	if _, statErr := os.Stat(filepath.Join(programs, "bin", "postgres")); statErr != nil {
		return errors.Join(err, statErr)
	}
	for _, name := range []string{"bin", "lib", "share"} {
		if err := os.Rename(filepath.Join(programs, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(dir, "fetch"))
}

// abandon ends a fetch that cannot be interrupted: a file takes the place of its folder, so that it can write nothing more, and
// does not make the folder again after it was removed. While it unpacks it ends by that at once; while it downloads it
// writes nothing, and is not waited for.
func abandon(folder string, fetched <-chan error) error {
	const unpackEnds = 2 * time.Second
	for {
		if err := os.RemoveAll(folder); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
		if err := os.WriteFile(folder, nil, 0o600); err == nil {
			break // otherwise the folder was made again meanwhile
		}
	}
	select {
	case <-fetched: //nolint:errcheck // it fails, by design
	case <-time.After(unpackEnds):
	}
	return nil
}
