package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
)

// Recovery says how a copy of a server's files is brought up. The zero value starts it as it is.
type Recovery struct {
	// Signal is the file that tells Postgres how to recover: "standby.signal" or "recovery.signal".
	// Defaults to none.
	Signal string

	// Parameters are added to the server's settings, such as restore_command and
	// recovery_target_name.
	Parameters map[string]string
}

// Backup copies the files of a server that is shut down, and returns the folder, which Stop removes
// with the server.
func (p *Postgres) Backup() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil && p.server.Alive() {
		return "", errors.New("back up Postgres: it runs")
	}
	for n := 1; ; n++ {
		dir := filepath.Join(p.folder.Path, "backup-"+strconv.Itoa(n))
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := p.copyFiles(p.dataFolder(), dir); err != nil {
			return "", fmt.Errorf("back up Postgres: %w", err)
		}
		return dir, nil
	}
}

// Restore puts the files of a Backup in the place of the server's own, which must be down, and
// starts it on the same port. It returns once the server answers, which may be before it is a
// primary.
func (p *Postgres) Restore(ctx context.Context, backup string, recovery Recovery) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil && p.server.Alive() {
		return errors.New("restore Postgres: it runs")
	}
	if err := os.RemoveAll(p.dataFolder()); err != nil {
		return fmt.Errorf("restore Postgres: %w", err)
	}
	if err := p.bringUp(ctx, backup, recovery); err != nil {
		return fmt.Errorf("restore Postgres: %w", err)
	}
	return nil
}

// Copy starts another server, on its own port, on the files of a Backup of p. The caller ends it
// with Stop.
func (p *Postgres) Copy(ctx context.Context, backup string, recovery Recovery) (*Postgres, error) {
	folder, err := p.owner.makeFolder(p.options.Folder)
	if err != nil {
		return nil, err
	}
	c := &Postgres{options: p.options, binaries: p.binaries, owner: p.owner, folder: folder, password: p.password}
	c.options.Parameters = maps.Clone(p.options.Parameters)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.port, err = freePort()
	if err == nil {
		c.URL = c.databaseURL("postgres")
		err = c.bringUp(ctx, backup, recovery)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy Postgres: %w", err), folder.Remove())
	}
	return c, nil
}

// bringUp copies the backup to where the data belongs, and starts.
func (p *Postgres) bringUp(ctx context.Context, backup string, recovery Recovery) error {
	if err := p.copyFiles(backup, p.dataFolder()); err != nil {
		return err
	}
	if recovery.Signal != "" {
		signal := filepath.Join(p.dataFolder(), recovery.Signal)
		if err := os.WriteFile(signal, nil, 0o600); err != nil {
			return err
		}
		if err := p.owner.own(signal); err != nil {
			return err
		}
	}
	if p.options.Parameters == nil {
		p.options.Parameters = map[string]string{}
	}
	maps.Copy(p.options.Parameters, recovery.Parameters)
	return p.start(ctx)
}

// DatabaseURL is the URL of a database of this server.
func (p *Postgres) DatabaseURL(name string) string { return p.databaseURL(name) }

// Folder is where the server's files lie; Stop removes it.
func (p *Postgres) Folder() string { return p.folder.Path }

// copyFiles copies a data folder and gives it to the owner.
func (p *Postgres) copyFiles(from, to string) error {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	})
	if err != nil {
		return err
	}
	return p.owner.own(to)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
