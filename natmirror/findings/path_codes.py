"""Findings about the ways to clients, backends and mirrors, and about whether they answer."""

from natmirror.findings.code import Affected, FindingCode, Severity, Trait

_WARNING, _FAILURE = Severity.WARNING, Severity.FAILURE
_PRODUCTION, _COPIES = Affected.PRODUCTION, Affected.COPIES
_SEARCH = (
    "run: tcpdump -ni any host {host}\nif nothing goes out to it, run: ip route get {host}; ip neigh show {host};"
    " ip rule; nft list ruleset; iptables-legacy-save; ip xfrm policy; ip link; tc qdisc"
)
"""What finds out whether this host is at fault, and where."""


class PathCode(FindingCode):
    """Findings about the ways to clients, backends and mirrors, and about whether they answer."""

    NO_BACKEND_REACHABLE = (
        *("no-backend-reachable", _FAILURE, _PRODUCTION),
        "this host reaches no backend of service {service}: {why}",
        "{mend}",
    )
    PRODUCTION_CUT = (
        *("production-cut", _FAILURE, _PRODUCTION),
        "this host passes no packets between clients and backends of service {service}: {why}",
        "{mend}",
    )
    PARTLY_CUT = (
        *("partly-cut", _WARNING, _PRODUCTION),
        "this host passes no packets between some clients and backends of service {service}: {why}",
        "{mend}",
    )
    COPIES_CUT = (
        *("copies-cut", _FAILURE, _COPIES),
        "copies do not reach {name} of service {service}: {why}",
        "{mend}",
    )
    CLIENTS_ELSEWHERE = (
        *("clients-elsewhere", _WARNING, _PRODUCTION),
        "the clients' network {network} is on {interface}, but the route to {client}, a part of it, leads to {other}:"
        " clients of that part on {interface} get no reply",
        "remove that route or the address of {other}; to see the route, run: ip route get {client}",
    )
    STATIC_NEIGHBOUR = (
        *("static-neighbour", _WARNING, _PRODUCTION),
        "{name} of service {service} answers nothing, and the neighbour entry of {address} on {interface} is permanent"
        " ({link_address}): if that is not the MAC address of {address}, no packet gets there",
        "run: ip neigh del {address} dev {interface}",
    )
    NO_NEIGHBOUR = (
        *("no-neighbour", _WARNING, _PRODUCTION),
        "{name} of service {service} answers nothing, and {address}, to which its packets go, answers no ARP request on"
        " {interface}",
        "see that {address} is up; if it is not the right gateway, correct the route to {name}",
    )
    ARP_UNANSWERED = (
        *("arp-unanswered", _WARNING, _PRODUCTION),
        "the kernel answers no ARP request on {interface} for {addresses}: {why}; {who} that do not know the MAC"
        " address yet, or forget it, do not reach service {service}",
        "{mend}",
    )
    ARP_IN_VAIN = (
        *("arp-in-vain", _FAILURE, _PRODUCTION),
        "production has stopped passing, and the kernel answers no ARP request on {interface} for {addresses}, by which"
        " {who} reach service {service}: {why}",
        "{mend}",
    )
    LINK_ENSLAVED = (
        *("link-enslaved", _WARNING, _PRODUCTION),
        "the interface {interface} is a port of {master}: the kernel gives its packets to {master}, so addresses and"
        " routes of {interface} do not work",
        "run: ip link set {interface} nomaster\nor move its addresses and routes to {master}",
    )
    NO_ROUTE_TO_BACKEND = (
        *("no-route-to-backend", _WARNING, _PRODUCTION),
        "there is no route to {name} ({address}) of service {service}",
        "run: ip route add {address}/32 via GATEWAY",
    )
    NO_ROUTE_TO_MIRROR = (
        *("no-route-to-mirror", _FAILURE, _COPIES),
        "there is no route to {name} ({address}) of service {service}",
        "run: ip route add {address}/32 via GATEWAY",
    )
    LINK_DOWN = (
        *("link-down", _WARNING, _PRODUCTION),
        "the interface {interface}, by which {hosts} are reached, is down or has no carrier",
        "run: ip link set {interface} up\nif it is up, see the cable or the other end",
    )
    MTU_NARROWS = (
        *("mtu-narrows", _WARNING, _PRODUCTION),
        "packets that fit {wide} (MTU {wide_mtu}) do not fit {narrow} (MTU {mtu}): connections hang if ICMP errors"
        " are filtered",
        "run: ip link set {narrow} mtu {wide_mtu}\nor run: iptables -t mangle -A POSTROUTING -o {narrow} -p tcp"
        " --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    )
    BIG_TCP = (
        *("big-tcp", _WARNING, _PRODUCTION),
        "packets above 64 KiB arrive (BIG TCP), and the kernel has to cut all large packets for natmirror, which costs"
        " throughput",
        "on each interface whose gso_ipv4_max_size or gro_ipv4_max_size is above 65536 (ip -d link show), run:"
        " ip link set INTERFACE gso_ipv4_max_size 65536 gro_ipv4_max_size 65536",
    )
    BACKEND_SILENT = (
        *("backend-silent", _WARNING, _PRODUCTION),
        "{name} ({address}) of service {service} has answered none of the last {count} SYNs: it is down, this host does"
        " not pass them on, or the replies do not come through this host",
        f"{_SEARCH}\nelse this has to name this host as the gateway; on {{name}}, run: ip route get CLIENT",
    )
    MIRROR_SILENT = (
        *("mirror-silent", _FAILURE, _COPIES),
        "mirror {name} ({address}) of service {service} answers nothing: {count} packets were sent again since its last"
        " acknowledgement",
        f"{_SEARCH}\nelse set source for the mirror, or this has to name this host as the gateway; on {{name}}, run: ip"
        " route get CLIENT",
    )
    SERVICE_SILENT = (
        *("service-silent", _FAILURE, _PRODUCTION),
        "no backend of service {service} acknowledges anything that its clients, {client} among them, send",
        f"{_SEARCH}\nif only small packets go out, look for a rule with a length, and at the MTUs\nelse see whether the"
        " backends run; this has to name this host as the gateway; on each, run: ip route get {client}",
        Trait.MAY_LIE_BEYOND,
    )
    SERVICE_HARDLY_PASSES = (
        *("service-hardly-passes", _FAILURE, _PRODUCTION),
        "most clients of service {service}, {client} among them, wait in vain for acknowledgements of their backend, or"
        " do not get what it sends: only a few packets pass",
        f"{_SEARCH}\nlook for limits and losses there: rules with limit or hashlimit, tc -s qdisc, ip -s link",
        Trait.MAY_LIE_BEYOND,
    )
    NO_NEW_CONNECTIONS = (
        *("no-new-connections", _WARNING, _PRODUCTION),
        "no new connection to service {service} is completed, though clients try, {client} among them: SYNs or SYN-ACKs"
        " are lost, or the SYNs have forged addresses",
        "run: tcpdump -ni any 'host {client} and tcp[tcpflags] & tcp-syn != 0'\nwhat comes in and does not go out, this"
        " host drops: look for rules that match SYNs, new connections or their number: nft list ruleset;"
        " iptables-legacy-save; sysctl net.netfilter.nf_conntrack_max; else see whether clients that you know can"
        " connect",
    )
    SYNS_UNANSWERED = (
        *("syns-unanswered", _WARNING, _PRODUCTION),
        "no backend of service {service} answers the SYNs of its clients, {client} among them: they do not reach the"
        " backends, or the backends ignore them, as they do those with an MD5 signature",
        f"{_SEARCH}\nelse see whether clients that you know can connect",
    )
    CLIENTS_UNREACHABLE = (
        *("clients-unreachable", _FAILURE, _PRODUCTION),
        "what the backends of service {service} send does not reach its clients, {client} among them, which go on"
        " sending and acknowledge nothing",
        f"{_SEARCH}\nelse look at the network between this host and the clients",
        Trait.MAY_LIE_BEYOND,
    )
    HANDSHAKES_INCOMPLETE = (
        *("handshakes-incomplete", _WARNING, _PRODUCTION),
        "the backends of service {service} accept connections, but no client, {client} among them, completes one: their"
        " answers do not reach clients, or the SYNs have forged addresses",
        f"{_SEARCH}\nelse limit-per-client in the rules drops a part of such SYNs",
    )
    ALL_DRAINED = (
        *("all-drained", _WARNING, _PRODUCTION),
        "the operator has drained all backends of service {pool}: new connections {fate}",
        "run: natmirror undrain {pool}/{name}",
    )
    NO_BACKEND_UP = (
        *("no-backend-up", _FAILURE, _PRODUCTION),
        "no backend of service {pool} is up: new connections {fate} ({reasons})",
        f"start the backends; if they run, look for their packets: {_SEARCH}",
        Trait.MAY_LIE_BEYOND,
    )
    SORRY_ALONE = (
        *("sorry-alone", _WARNING, _PRODUCTION),
        "no backend of service {pool} is up: new connections {fate} ({reasons})",
        f"start the backends; if they run, look for their packets: {_SEARCH}",
    )
    TARGET_IS_THIS_HOST = (
        *("target-is-this-host", _WARNING, _PRODUCTION),
        "{name} ({address}) of service {service} has an address of this host, so its packets do not pass natmirror",
        "run: ip address del {address}/32 dev INTERFACE\nor correct the rules",
    )
    LISTENER_BYPASSED = (
        *("listener-bypassed", _WARNING, _PRODUCTION),
        "a program on this host listens on {address} port {port}, but gets no connection of a client: natmirror gives"
        " those of service {service} to its pool",
        "stop that program; to see it, run: ss -ltnp 'sport = :{port}'\nor leave the pool out of the rules",
    )
    LOCAL_CLIENT = (
        *("local-client", _WARNING, _PRODUCTION),
        "a program on this host connects to service {service}, which only hosts in the networks of switches can",
        "have that program connect to a backend's own address; to see it, run: ss -tnp state syn-sent",
    )
    SOURCE_MISSING = (
        *("source-missing", _FAILURE, _COPIES),
        "{address}, the source of legs to mirror {name} of service {service}, is not an address of this host",
        "run: ip address add {address}/32 dev INTERFACE",
    )
    SERVICE_ADDRESS_MISSING = (
        *("service-address-missing", _WARNING, _PRODUCTION),
        "{address} of service {service} lies in {network} on {interface}, but is not an address of this host: unless"
        " another host answers ARP requests for it, no client can reach it",
        "run: ip address add {address}/{length} dev {interface}",
    )
    CLIENTS_NOT_IN_SWITCHES = (
        *("clients-not-in-switches", _WARNING, _PRODUCTION),
        "{address} of service {service} lies in {network} on {interface}, but no network of switches does, or is routed"
        " there: the service refuses the clients beside its address",
        "add {network} to switches in the rules, and run: natmirror reload",
    )
    SERVICE_ADDRESS_NOT_LOCAL = (
        *("service-address-not-local", _FAILURE, _PRODUCTION),
        "{address} of service {service} is an address of this host, but its local route is gone: the kernel answers no"
        " ARP request for it",
        "run: ip route add local {address} dev {interface} table local",
    )
    CHECK_SAYS_NOTHING = (
        *("check-says-nothing", _WARNING, _PRODUCTION),
        "the health checks of {name} ({address}) of service {service} say nothing about it, so it stays {state}:"
        " {reason}",
        "make this host's own packets reach {address}: look at ip route get {address}, ip link, iptables -S OUTPUT and"
        " nft list ruleset",
    )
    POOL_IN_PANIC = (
        *("pool-in-panic", _WARNING, _PRODUCTION),
        "most backends of service {pool} have failed their health checks at once, and neither a gateway nor a mirror"
        " answers: this host's network has probably failed. Connections are not reset, and new ones go to {where}",
        "look at the interface and the switch that lead to the backends: {names}",
    )
