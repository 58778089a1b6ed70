#!/bin/sh
# Behind an LVS director in direct-routing mode: the address on lo of each host, and nobody but the
# director says where it is. Run as root at each start: lvs.sh 192.0.2.10
set -eu
address=${1:?which address}
# Before the address is there: answer ARP only for addresses of the interface that was asked, and
# ask with addresses of the interface that is used.
for name in all lo eth0; do
    for key in arp_ignore=1 arp_announce=2; do
        file=/proc/sys/net/ipv4/conf/$name/${key%=*}
        if [ -e "$file" ]; then echo "${key#*=}" >"$file"; fi
    done
done
ip address replace "$address/32" dev lo
