// libcni-client makes the calls of libcni that cnitool doesn't: GC of a network with a list of what is valid, as
// runtimes send it, and STATUS with the error's code.
//
//	NETCONFPATH=DIR CNI_PATH=DIR libcni-client gc|status NETWORK [CONTAINER/IFNAME...]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func main() {
	if len(os.Args) < 3 {
		fail(errors.New("usage: libcni-client gc|status NETWORK [CONTAINER/IFNAME...]"))
	}
	list, err := libcni.LoadNetworkConf(os.Getenv("NETCONFPATH"), os.Args[2])
	if err != nil {
		fail(err)
	}
	list.CNIVersion = "1.1.0" // libcni sends neither to the plugins of an older list
	client := libcni.NewCNIConfig(filepath.SplitList(os.Getenv("CNI_PATH")), nil)
	switch os.Args[1] {
	case "gc":
		err = collect(client, list, os.Args[3:])
	case "status":
		err = client.GetStatusNetworkList(context.Background(), list)
	default:
		err = fmt.Errorf("%s is neither gc nor status", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

// collect keeps what is valid; where nothing is, libcni sends null.
func collect(client *libcni.CNIConfig, list *libcni.NetworkConfigList, valid []string) error {
	// where its cache was never written, libcni's GC does nothing and says nothing
	if err := os.MkdirAll(filepath.Join(libcni.CacheDir, "results"), 0o700); err != nil {
		return err
	}
	var attachments []types.GCAttachment
	for _, one := range valid {
		container, ifname, _ := strings.Cut(one, "/")
		attachments = append(attachments, types.GCAttachment{ContainerID: container, IfName: ifname})
	}
	return client.GCNetworkList(context.Background(), list, &libcni.GCArgs{ValidAttachments: attachments})
}

func fail(err error) {
	var told *types.Error
	if errors.As(err, &told) {
		fmt.Fprintf(os.Stderr, "code %d: ", told.Code)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
