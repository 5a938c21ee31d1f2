package sandbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/sandbox"
)

// A test that needs a parent to kill runs this test binary again, as that parent.
const parentVariable = "RELAY_SANDBOX_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		server, err := sandbox.StartPostgres(context.Background(), sandbox.PostgresOptions{})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(server.URL)
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

func TestAServerEndsWithAProgramThatIsKilledAndTheNextOneRemovesItsFolder(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"=1")
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("read the URL: %v", err)
	}
	url := strings.TrimSpace(line)
	folder := filepath.Dir(query[string](t, url, "SHOW data_directory"))
	segment := sharedMemory(t, folder)

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Fatal("the parent was not killed")
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := os.Stat(filepath.Join(folder, "data", "postmaster.pid"))
		if errors.Is(err, fs.ErrNotExist) { // the last thing that a server does
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the server outlived its parent")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("the server still answers")
	}
	if slices.Contains(segments(t), segment) {
		t.Errorf("shared memory segment %s remains", segment)
	}

	startPostgres(t, sandbox.PostgresOptions{})
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of the killed program remains: %v", err)
	}
}

func TestStopLeavesNeitherProcessNorFolderNorSharedMemory(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		server := startPostgres(t, sandbox.PostgresOptions{})
		folder := filepath.Dir(query[string](t, server.URL, "SHOW data_directory"))
		if _, err := os.Stat(folder); err != nil {
			t.Fatal(err)
		}
		segment := sharedMemory(t, folder)
		if !slices.Contains(segments(t), segment) {
			t.Fatalf("segment %s is not listed while the server runs", segment)
		}
		if crashed {
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("crashed %v: the folder remains: %v", crashed, err)
		}
		if slices.Contains(segments(t), segment) {
			t.Errorf("crashed %v: shared memory segment %s remains", crashed, segment)
		}
		if _, err := pgx.Connect(t.Context(), server.URL); err == nil {
			t.Errorf("crashed %v: the server still answers", crashed)
		}
		if err := server.Restart(t.Context()); err == nil {
			t.Errorf("crashed %v: a stopped server was restarted", crashed)
		}
	}
}

// sharedMemory is the id of the segment that the server names in its pid file.
func sharedMemory(t *testing.T, folder string) string {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(folder, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(strings.Split(string(file), "\n")[6])[1]
}

func segments(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(list)) {
		ids = append(ids, strings.Fields(line)[1])
	}
	return ids
}
