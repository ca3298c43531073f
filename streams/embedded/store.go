package embedded

import (
	"os"
	"path/filepath"
)

// holding describes the contents of a store directory, for computing limits and timeouts.
type holding struct {
	durables int
	bytes    int64 // of messages
}

func streamsDir(dir, account string) string {
	return filepath.Join(dir, "jetstream", account, "streams")
}

// streamDirs returns the directories of all streams of all accounts. It ignores errors, which the server reports
// itself.
func streamDirs(dir string) []string {
	var dirs []string
	accounts, _ := os.ReadDir(filepath.Join(dir, "jetstream"))
	for _, account := range accounts {
		root := streamsDir(dir, account.Name())
		streams, _ := os.ReadDir(root)
		for _, stream := range streams {
			dirs = append(dirs, filepath.Join(root, stream.Name()))
		}
	}
	return dirs
}

// survey returns the contents of a store. It only lists directories, which takes about 5 ms for 10,000 durables.
func survey(dir string) holding {
	var held holding
	for _, stream := range streamDirs(dir) {
		consumers, _ := os.ReadDir(filepath.Join(stream, "obs"))
		held.durables += len(consumers)
		files, _ := os.ReadDir(filepath.Join(stream, "msgs"))
		for _, file := range files {
			if info, err := file.Info(); err == nil {
				held.bytes += info.Size()
			}
		}
	}
	return held
}
