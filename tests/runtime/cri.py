"""A client of the container runtime interface: what a kubelet asks for, in few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import images
from containerd import Containerd
from cri_api.v1 import api_pb2

Port = tuple[int, int, str]  # host port, container port, "tcp" or "udp"
NODE = api_pb2.NamespaceMode.Value("NODE")


class Cri:
    """Pods and containers of one containerd."""

    def __init__(self, daemon: Containerd) -> None:
        self.daemon = daemon
        self._configs: dict[str, Any] = {}

    def run_pod(
        self,
        name: str,
        ports: tuple[Port, ...] = (),
        host_network: bool = False,
        annotations: Mapping[str, str] | None = None,
        servers: tuple[str, ...] = (),
    ) -> str:
        """Identifier of a new pod sandbox; ``servers`` are its name servers. Raises grpc.RpcError."""
        network = {"network": NODE} if host_network else {}
        context = api_pb2.LinuxSandboxSecurityContext(namespace_options=api_pb2.NamespaceOption(**network))
        config = api_pb2.PodSandboxConfig(
            metadata=api_pb2.PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="default"),
            hostname="" if host_network else name,
            log_directory=str(self.daemon.directory / "logs"),
            port_mappings=[_port(*port) for port in ports],
            annotations=annotations,
            dns_config=api_pb2.DNSConfig(servers=servers) if servers else None,
            linux=api_pb2.LinuxPodSandboxConfig(
                cgroup_parent=f"/{self.daemon.machine.cgroup}", security_context=context
            ),
        )
        request = api_pb2.RunPodSandboxRequest(config=config)
        pod: str = self.daemon.runtime.RunPodSandbox(request, timeout=180).pod_sandbox_id
        self._configs[pod] = config
        return pod

    def addresses(self, pod: str) -> list[str]:
        """The pod's addresses, the first one first."""
        request = api_pb2.PodSandboxStatusRequest(pod_sandbox_id=pod)
        network = self.daemon.runtime.PodSandboxStatus(request, timeout=30).status.network
        return [network.ip, *(more.ip for more in network.additional_ips)]

    def run_container(self, pod: str, name: str, command: list[str]) -> str:
        """Identifier of a new, started busybox container in ``pod``."""
        config = api_pb2.ContainerConfig(
            metadata=api_pb2.ContainerMetadata(name=name),
            image=api_pb2.ImageSpec(image=images.BUSYBOX),
            command=command,
            log_path=f"{name}.log",
            linux=api_pb2.LinuxContainerConfig(),
        )
        request = api_pb2.CreateContainerRequest(
            pod_sandbox_id=pod, config=config, sandbox_config=self._configs[pod]
        )
        made: str = self.daemon.runtime.CreateContainer(request, timeout=180).container_id
        self.daemon.runtime.StartContainer(api_pb2.StartContainerRequest(container_id=made), timeout=180)
        return made

    def execute(self, container: str, *command: str) -> str:
        """Standard output of a command in a container. Raises AssertionError when it fails."""
        request = api_pb2.ExecSyncRequest(container_id=container, cmd=command, timeout=30)
        done = self.daemon.runtime.ExecSync(request, timeout=40)
        assert done.exit_code == 0, f"{command}: {done.stdout.decode()}{done.stderr.decode()}"
        out: str = done.stdout.decode()
        return out

    def stop_pod(self, pod: str) -> None:
        """Stop a pod's containers and take its network away."""
        self.daemon.runtime.StopPodSandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=pod), timeout=180)

    def remove_pod(self, pod: str) -> None:
        """Forget a pod."""
        self.daemon.runtime.RemovePodSandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=pod), timeout=180)
        self._configs.pop(pod, None)

    def pods(self) -> list[str]:
        """Identifiers of all pods, stopped ones too."""
        found = self.daemon.runtime.ListPodSandbox(api_pb2.ListPodSandboxRequest(), timeout=30)
        return [item.id for item in found.items]


def _port(host: int, container: int, protocol: str) -> Any:
    number = api_pb2.Protocol.Value(protocol.upper())
    return api_pb2.PortMapping(protocol=number, container_port=container, host_port=host)
