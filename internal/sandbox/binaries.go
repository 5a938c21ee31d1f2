package sandbox

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
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
	"github.com/outbox-relay/relay/internal/pinned"
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

// postgresBinaries returns the folder that holds initdb and postgres. An empty version takes the
// newest installed server, and fetches one where there is none; a given version is always fetched,
// so that it is the same everywhere.
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

// serverVersion asks the server in dir for its major version; not ok if there is no whole
// server.
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
		return "", fmt.Errorf("fetch Postgres: version %q is not one of %s", version, known)
	}
	digests, err := pinned.Parse(archiveDigests)
	if err != nil {
		return "", err
	}
	// The name changes with the digests, so what is in the cache was compared with these.
	dir, err := cache.Folder(ctx, "postgres-"+string(release)+"-"+digests.Of(), func(ctx context.Context, dir string) error {
		notice(fmt.Sprintf("fetching Postgres %s, once", release))
		return fetch(ctx, release, version, dir, digests)
	})
	if err != nil {
		return "", fmt.Errorf("fetch Postgres %s: %w; allow this machine to reach Maven Central, or install a server "+
			"(for example: apt-get install postgresql)", release, err)
	}
	return filepath.Join(dir, "bin"), nil
}

// archiveDigests are those of the archives that hold the programs; go run ./integration/pins writes
// them again.
//
//go:embed postgres.sha256
var archiveDigests string

// fetch puts a release of Postgres into dir. The library fetches, unpacks and starts in one call,
// and nothing must be unpacked or run before its digest was compared. So it is called twice. The
// first call is given a place that cannot be made for what it unpacks: it ends once it has the
// archive. The second one finds the archive there. It is given a data folder that holds a version
// and nothing else: it takes that for an initialised one, unpacks the programs, and then cannot
// start a server on it, on any system and as any user.
func fetch(ctx context.Context, release embeddedpostgres.PostgresVersion, major, dir string, digests pinned.Digests) error {
	folder := filepath.Join(dir, "fetch")
	data, nowhere := filepath.Join(folder, "data"), filepath.Join(folder, "nowhere")
	err := errors.Join(os.MkdirAll(data, 0o755), os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o644),
		os.Symlink(filepath.Join(folder, "absent"), nowhere))
	if err != nil {
		return err
	}
	if err := start(ctx, release, folder, filepath.Join(nowhere, "programs")); err != nil && ctx.Err() != nil {
		return err
	} else if fault := checkArchive(folder, digests); fault != nil {
		return errors.Join(err, fault)
	}
	programs := filepath.Join(folder, "programs")
	err = start(ctx, release, folder, programs)
	if ctx.Err() != nil {
		return err
	}
	if _, statErr := os.Stat(filepath.Join(programs, "bin", "postgres")); statErr != nil {
		return errors.Join(err, statErr)
	}
	for _, name := range []string{"bin", "lib", "share"} {
		if err := os.Rename(filepath.Join(programs, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.RemoveAll(folder)
}

// checkArchive compares what was fetched.
func checkArchive(folder string, digests pinned.Digests) error {
	archives, err := filepath.Glob(filepath.Join(folder, "archive", "*.txz"))
	if err != nil {
		panic(err) // the pattern is a constant
	}
	if len(archives) != 1 {
		return fmt.Errorf("%d archives were fetched", len(archives))
	}
	return digests.File(archives[0])
}

// start lets the library fetch the archive unless it is there, unpack it and start a server; it
// always fails, see fetch.
func start(ctx context.Context, release embeddedpostgres.PostgresVersion, folder, programs string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	var log bytes.Buffer
	library := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(release).Port(uint32(port)).Logger(&log).
		CachePath(filepath.Join(folder, "archive")).RuntimePath(filepath.Join(folder, "run")).
		BinariesPath(programs).DataPath(filepath.Join(folder, "data")))
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if fault := recover(); fault != nil { // it panics where its folder was removed because ctx ended
				ended <- fmt.Errorf("unpack: %v", fault)
			}
		}()
		ended <- library.Start()
	}()
	defer removeLibraryLog()
	select {
	case <-ctx.Done():
		return errors.Join(ctx.Err(), abandon(folder, ended))
	case err := <-ended:
		return err
	}
}

// abandon ends a fetch that cannot be interrupted: a file takes the place of its folder, so that it
// can write nothing more, and does not make the folder again after it was removed. While it unpacks
// it ends by that at once; while it downloads it writes nothing, and is not waited for.
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
