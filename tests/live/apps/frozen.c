/* Preloaded into a program, a disk that freezes: rename() and write() below the directory FROZEN_BELOW wait while the
   file FROZEN_WHILE exists, and the first one to wait makes the file FROZEN_WHILE.hit. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void wait_for_thaw(const char *path)
{
    const char *below = getenv("FROZEN_BELOW"), *flag = getenv("FROZEN_WHILE");
    char hit[4096];

    if (!below || !flag || strncmp(path, below, strlen(below)) || access(flag, F_OK))
        return;
    snprintf(hit, sizeof hit, "%s.hit", flag);
    close(open(hit, O_CREAT | O_WRONLY, 0600));
    while (!access(flag, F_OK))
        usleep(10000);
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");

    wait_for_thaw(to);
    return real(from, to);
}

ssize_t write(int fd, const void *data, size_t len)
{
    ssize_t (*real)(int, const void *, size_t) = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    char link[64], path[4096];
    ssize_t got;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    got = readlink(link, path, sizeof path - 1);
    if (got > 0) {
        path[got] = 0;
        wait_for_thaw(path);
    }
    return real(fd, data, len);
}
