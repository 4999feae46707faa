/* A CNI plugin that does nothing: what is left of a call then is the runtime's own. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char result[] = "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/pod\"}],"
			     "\"ips\":[{\"address\":\"10.97.0.2/24\",\"interface\":0}]}";
static const char versions[] = "{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\"]}";

int main(void)
{
	const char *command = getenv("CNI_COMMAND");
	char configuration[4096];
	while (read(0, configuration, sizeof configuration) > 0)
		;
	if (command && !strcmp(command, "ADD"))
		return write(1, result, strlen(result)) < 0;
	if (command && !strcmp(command, "VERSION"))
		return write(1, versions, strlen(versions)) < 0;
	return 0;
}
