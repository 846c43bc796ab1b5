package testserver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// segments lists the machine's segments of System V shared memory.
func segments(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		Missing(t, "/proc/sysvipc/shm")
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		ids = append(ids, strings.Fields(line)[1])
	}
	return ids
}

// The system has room for some thousand segments, and keeps them until it is told to forget them.
func TestPostgresLeavesNothingBehind(t *testing.T) {
	for name, end := range map[string]func(*PostgresServer){
		"running": func(*PostgresServer) {},
		"stopped": (*PostgresServer).Stop,
		"killed":  (*PostgresServer).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			var segment, dir string
			t.Run("server", func(t *testing.T) {
				s := Postgres(t)
				dir = s.dir
				text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
				if err != nil {
					t.Fatal(err)
				}
				// The seventh line has the segment's key and id.
				segment = strings.Fields(strings.Split(string(text), "\n")[6])[1]
				if !slices.Contains(segments(t), segment) {
					t.Fatalf("the segment %q is not there:\n%s", segment, text)
				}
				end(s)
			})
			if dir == "" {
				t.Skip("no server")
			}
			if slices.Contains(segments(t), segment) {
				t.Errorf("the segment %s is still there", segment)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is still there", dir)
			}
		})
	}
}
