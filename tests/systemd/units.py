"""What the test machine has installed: stand-ins for a node's daemons that really run, and one of each other kind."""

CONTAINERD = "/etc/systemd/system/containerd.service"

UNITS = {
    CONTAINERD: """[Unit]
Description=containerd container runtime
Documentation=https://containerd.io man:containerd(8)
After=network.target local-fs.target dbus.service
[Service]
Type=notify
NotifyAccess=all
Environment=HTTPS_PROXY=http://builder:hunter2@proxy:3128 NO_PROXY=localhost REGISTRY_TOKEN=abc123
ExecStartPre=-/bin/true --early
ExecStart=/bin/sh -c 'systemd-notify --ready --status="pid $$$$"; exec sleep infinity'
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5
Delegate=yes
LimitNOFILE=1048576
OOMScoreAdjust=-999
RuntimeDirectory=containerd
SystemCallFilter=~reboot swapon swapoff
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
IPAddressDeny=203.0.113.0/24 198.51.100.0/24 192.0.2.0/24
[Install]
WantedBy=multi-user.target
Alias=container-runtime.service
""",
    "/etc/systemd/system/kubelet.service": """[Unit]
Description=Kubernetes node agent
After=containerd.service
Wants=containerd.service
ConditionPathExists=/bin/sleep
[Service]
ExecStart=/bin/sleep infinity
Restart=always
CPUAccounting=yes
MemoryAccounting=yes
IPAccounting=yes
[Install]
WantedBy=multi-user.target
""",
    "/etc/systemd/system/kubelet.service.d/10-node.conf": """[Service]
Environment=NODE_LABELS=zone=a
""",
    # Installed, not enabled, and nothing loads it: reading it must not show in the units it refers to.
    "/etc/systemd/system/nvidia-persistenced.service": """[Unit]
Description=NVIDIA Persistence Daemon
Before=kubelet.service
After=containerd.service
[Service]
ExecStart=/bin/sleep infinity
DynamicUser=yes
""",
    "/etc/systemd/system/nvidia-worker@.service": """[Service]
ExecStart=/bin/sleep infinity
Slice=nvidia.slice
""",
    "/etc/systemd/system/nvidia.slice": "[Slice]\nCPUWeight=200\n",
    "/etc/systemd/system/tick.service": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    "/etc/systemd/system/tick.timer": "[Timer]\nOnBootSec=90min\nOnUnitActiveSec=2h\nOnCalendar=yearly\n",
    "/etc/systemd/system/scratch.mount": """[Mount]
What=tmpfs
Where=/scratch
Type=tmpfs
Options=size=1m,nosuid
""",
    "/etc/systemd/system/talk.socket": "[Socket]\nListenStream=/run/talk\nAccept=yes\n",
    "/etc/systemd/system/talk@.service": "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n",
    "/etc/systemd/system/spool.path": "[Path]\nPathChanged=/srv/spool\nUnit=tick.service\n",
    "/etc/systemd/system/broken.service": "[Service]\nType=simple\n",
    "/etc/systemd/system/crash.service": """[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/false
Restart=always
RestartSec=1h
""",
}
ENABLED = ("containerd.service", "kubelet.service")
STARTED = (
    *ENABLED, "nvidia-worker@0.service", "tick.timer", "talk.socket", "spool.path", "scratch.mount",
)  # fmt: skip
